import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { fromSystemError, LazytreeError } from '../errors.js';
import { adoptRecords } from './adopt.js';
import { newEpoch, openBlockIndex } from './block-index.js';
import { damagedTables } from './index-damage.js';

export interface RebuildReport {
  /** Blocks that the index did not have and now has. */
  recovered: number;
}

/** Whether tables of a store's index are damaged: it opens, and what it says cannot be relied on. */
export async function isIndexDamaged(directory: string): Promise<boolean> {
  const indexDirectory = join(directory, 'index');
  return existsSync(indexDirectory) && (await damagedTables(indexDirectory)).length > 0;
}

/**
 * Makes the index of a store whole again: salvages what LevelDB can, then adds every record of the segments that
 * is not in it. Blocks that gc had dropped and not yet rewritten come back, which costs space and nothing else.
 *
 * @throws LazytreeError NOT_FOUND, or LOCKED when a process has the store open
 */
export async function rebuildIndex(directory: string): Promise<RebuildReport> {
  if (!existsSync(join(directory, 'format'))) {
    throw new LazytreeError('NOT_FOUND', `there is no store in ${directory}`);
  }
  const indexDirectory = join(directory, 'index');
  await assertUnlocked(indexDirectory);
  try {
    await ClassicLevel.repair(indexDirectory);
  } catch (error) {
    throw new LazytreeError('CORRUPT', `LevelDB cannot repair ${indexDirectory}`, { cause: error });
  }
  const index = await openBlockIndex(indexDirectory);
  try {
    await index.removeMalformed();
    await index.write({ texts: [newEpoch()], durable: true });
    const recovered = await adoptRecords(join(directory, 'segments'), index, new Map());
    // LevelDB's repair keeps tables of which it can read anything. Places in them that are wrong, `verify` finds.
    if ((await damagedTables(indexDirectory)).length > 0) await index.rewrite();
    return { recovered };
  } catch (error) {
    throw fromSystemError(error, `rebuilding ${indexDirectory}`);
  } finally {
    await index.close();
  }
}

/** LevelDB's repair does not look at its own lock. */
async function assertUnlocked(indexDirectory: string): Promise<void> {
  if (!existsSync(join(indexDirectory, 'CURRENT'))) return;
  try {
    await (await openBlockIndex(indexDirectory)).close();
  } catch (error) {
    if (!(error instanceof LazytreeError) || error.code === 'LOCKED') throw error;
  }
}
