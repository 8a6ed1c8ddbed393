import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { toFsPath } from '../format/name.js';
import { RACY_MS } from '../import/stat-cache.js';
import { sameStamp, stampOf } from '../import/stat-record.js';
import type { SeenDirectory } from './layer.js';

const ROUNDS = 6;
/** A change time further ahead than this is from another clock; waiting for it is no use. */
const CLOCK_SKEW_MS = 2000;

export interface AtRest<R> {
  result: R;
  /** A directory that kept changing, so that what was moved there or from there may be missing. */
  moving: string | undefined;
}

/**
 * Imports the upper layer `root`, which is being written to, until it rested for one whole round: what is renamed
 * from a directory that is not scanned yet to one that has been would otherwise be in neither. A round after the
 * first lists what has changed, and reads what is new. What fails in a round without rest may only look wrong.
 *
 * @param importOnce is to add the directories that it enters to `seen`
 */
export async function untilAtRest<R>(
  root: string,
  importOnce: (seen: SeenDirectory[]) => Promise<R>,
  signal?: AbortSignal,
): Promise<AtRest<R>> {
  for (let round = 1; ; round++) {
    const seen: SeenDirectory[] = [];
    const [outcome] = await Promise.allSettled([importOnce(seen)]);
    signal?.throwIfAborted();
    const moving = findMoving(root, seen);
    if (moving && round < ROUNDS) await sleep(moving.wait, undefined, signal ? { signal } : {});
    else if (outcome.status === 'rejected') throw outcome.reason;
    else return { result: outcome.value, moving: moving?.path };
  }
}

/**
 * A directory that has changed since it was looked at, or may have: a stamp hides what happens at the same tick.
 * `wait` is the time until every change so far has an older stamp than whatever comes then.
 */
function findMoving(
  root: string,
  seen: readonly SeenDirectory[],
): { path: string; wait: number } | undefined {
  let moving: string | undefined;
  let newest = 0;
  const now = Date.now();
  for (const { path, at, stamp } of seen) {
    const stat = fs.lstatSync(toFsPath(path === '' ? root : `${root}/${path}`), { throwIfNoEntry: false });
    const rested = stat && sameStamp(stamp, stampOf(stat)) && !isRecent(stamp.ctime, at);
    if (rested) continue;
    moving ??= path;
    const changed = stat?.ctimeMs ?? now;
    if (changed < now + CLOCK_SKEW_MS) newest = Math.max(newest, changed);
  }
  if (moving === undefined) return undefined;
  return { path: moving, wait: Math.max(newest + RACY_MS + 1 - now, 0) };
}

function isRecent(changed: number, at: number): boolean {
  return changed >= at - RACY_MS && changed <= at + CLOCK_SKEW_MS;
}
