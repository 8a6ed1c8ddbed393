import { readdirSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlockIndex, Location } from './block-index.js';
import { scanSegment } from './scan.js';
import { SEGMENT_HEADER, segmentNumber } from './segments.js';

const BATCH = 10_000;

/**
 * Takes what segments hold beyond the lengths that the index knows: whole records that a killed process had not
 * committed, or that an index which lost its newest changes no longer leads to. Nothing that is whole is thrown
 * away for not being in the index. Returns how many blocks were not in the index and now are.
 *
 * @param committed is brought up to date
 * @param unwanted digests of blocks that are not to come back
 */
export async function adoptRecords(
  directory: string,
  index: BlockIndex,
  committed: Map<number, number>,
  unwanted: ReadonlyMap<string, unknown> = new Map(),
): Promise<number> {
  let adopted = 0;
  for (const name of readdirSync(directory)) {
    const segment = segmentNumber(name);
    if (segment === undefined) continue;
    const from = committed.get(segment) ?? SEGMENT_HEADER;
    const { size } = statSync(join(directory, name));
    if (size <= from) continue;
    const handle = await open(join(directory, name), 'r+');
    try {
      const { end, added } = await adoptFrom({ handle, segment, from, size, index, unwanted });
      adopted += added;
      if (end === from && !committed.has(segment)) continue;
      committed.set(segment, end);
      await index.write({ segments: [[segment, end]], durable: true });
    } finally {
      await handle.close();
    }
  }
  return adopted;
}

interface Tail {
  handle: FileHandle;
  segment: number;
  from: number;
  size: number;
  index: BlockIndex;
  unwanted: ReadonlyMap<string, unknown>;
}

/** Payload before index, as everywhere. `end` is where the last record ends that the index leads to, then. */
async function adoptFrom({
  handle,
  segment,
  from,
  size,
  index,
  unwanted,
}: Tail): Promise<{ end: number; added: number }> {
  let end = from;
  let added = 0;
  let blocks: [string, Location][] = [];
  await handle.datasync();
  for await (const found of scanSegment(handle, size, from)) {
    if (found.kind === 'damage') continue;
    const { digest, offset, header, record } = found;
    if (unwanted.has(digest)) continue;
    const known = index.find(digest);
    // What the index leads to must not be cut off, whatever lies before it.
    if (known && (known.segment !== segment || known.offset !== offset)) continue;
    end = offset + record.length;
    if (known) continue;
    const { stored, raw, compression } = header;
    blocks.push([digest, { segment, offset, stored, raw, compression }]);
    added += 1;
    if (blocks.length < BATCH) continue;
    await index.write({ blocks });
    blocks = [];
  }
  await index.write({ blocks });
  return { end, added };
}
