import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { type Location, openBlockIndex } from './block-index.js';
import { scanSegment } from './scan.js';

const BATCH = 10_000;

export interface RebuildReport {
  /** Blocks that the index did not have and now has. */
  recovered: number;
}

/**
 * Makes the index of a store whole again: salvages what LevelDB can, then adds every record of the segments that
 * is not in it. Blocks that gc had dropped and not yet rewritten come back, which costs space and nothing else.
 */
export async function rebuildIndex(directory: string): Promise<RebuildReport> {
  const indexDirectory = join(directory, 'index');
  const segmentDirectory = join(directory, 'segments');
  await ClassicLevel.repair(indexDirectory);
  const index = await openBlockIndex(indexDirectory);
  try {
    const report = { recovered: 0 };
    const lengths = new Map<number, number>();
    let found: [string, Location][] = [];
    for (const name of await readdir(segmentDirectory)) {
      const segment = Number(/^(\d{8,})\.seg$/.exec(name)?.[1]);
      if (!Number.isInteger(segment)) continue;
      const handle = await open(join(segmentDirectory, name), 'r+');
      try {
        const { size } = await handle.stat();
        for await (const item of scanSegment(handle, size)) {
          if (item.kind === 'damage' || index.find(item.digest)) continue;
          const { digest, offset, header } = item;
          const { stored, raw, compression } = header;
          found.push([digest, { segment, offset, stored, raw, compression }]);
          report.recovered += 1;
          if (found.length >= BATCH) {
            await index.write({ blocks: found });
            found = [];
          }
        }
        await handle.datasync();
        lengths.set(segment, size);
      } finally {
        await handle.close();
      }
    }
    await index.write({ blocks: found, segments: lengths, durable: true });
    return report;
  } finally {
    await index.close();
  }
}
