import { type Comparison, createRecordComparer } from './compare-record.js';
import type { RecordPlace } from './stat-record.js';

/** What is known of a directory, in a byte that threads share. */
const Mark = {
  /** Somebody looks at it, or has. */
  taken: 1,
  /** It has been compared with the cache. */
  seen: 2,
  /** Something in it or below is not known to be as it was. */
  changed: 4,
  /** All that is below has been taken. */
  complete: 8,
} as const;

/** A cache, and what threads that look at its directory find out about it. */
export interface SurveyData {
  root: string;
  cache: SharedArrayBuffer;
  rootRecord: RecordPlace;
  trusted: number;
  /** A byte for each record, see {@link markIndex}; the last one, when set, ends the walks. */
  marks: SharedArrayBuffer;
}

export interface SurveyWalk {
  /** Goes one directory on; false when there is none left. */
  step(): boolean;
  /** Files that this walk has looked at. */
  seen(): number;
}

/** A directory that the walk is in. */
interface Level {
  path: string;
  record: RecordPlace;
  below: Comparison['below'];
  /** How many of those it has been to. */
  done: number;
}

/** No record is shorter than 32 bytes, so no two have one index. */
export function markIndex({ offset }: RecordPlace): number {
  return offset >>> 5;
}

/** What is the same is known to be only when all below it was looked at. */
export function isUnchanged(mark: number): boolean {
  return (mark & (Mark.seen | Mark.complete | Mark.changed)) === (Mark.seen | Mark.complete);
}

/**
 * Goes through the directories that a cache is of and compares them with the disk. Two walks from the two ends meet
 * in the middle, where the one that is not a `helper` also takes what the other one has not come to the end of, so
 * that nobody waits. What cannot be read, or does not check out, has changed.
 */
export function createSurveyWalk(
  { root, cache, rootRecord, trusted, marks: shared }: SurveyData,
  { helper }: { helper: boolean },
): SurveyWalk {
  const compare = createRecordComparer(cache, trusted);
  const marks = new Uint8Array(shared);
  const levels: Level[] = [];
  let begun = false;
  let seen = 0;

  function step(): boolean {
    if (Atomics.load(marks, marks.length - 1) !== 0) return false;
    const level = levels.at(-1);
    if (!level) {
      if (!begun) enter(rootRecord, root, cache.byteLength);
      begun = true;
    } else if (level.done < level.below.length) {
      const { below, path } = level;
      const { name, record } = below[helper ? below.length - 1 - level.done : level.done];
      level.done += 1;
      enter(record, `${path}/${name}`, level.record.offset);
    } else {
      Atomics.or(marks, markIndex(level.record), Mark.complete);
      levels.pop();
    }
    return levels.length > 0;
  }

  /** @param limit records of directories below come before it: a walk through any bytes at all has an end */
  function enter(record: RecordPlace, path: string, limit: number): void {
    if (!(record.offset >= 0 && record.length > 0 && record.offset + record.length <= limit)) {
      change();
      return;
    }
    const index = markIndex(record);
    const mark = Atomics.or(marks, index, Mark.taken);
    if (mark & Mark.complete) return;
    const looks = (mark & (helper ? Mark.taken : Mark.seen)) === 0;
    const level: Level = { path, record, below: [], done: 0 };
    levels.push(level);
    try {
      const { same, files, below } = compare(record, path, looks);
      level.below = below;
      seen += files;
      if (looks && !same) change();
    } catch {
      change();
    }
    if (looks) Atomics.or(marks, index, Mark.seen);
  }

  /** From the outermost on, and before the innermost is seen: who sees it knows of all of them. */
  function change(): void {
    for (const { record } of levels) Atomics.or(marks, markIndex(record), Mark.changed);
  }

  return { step, seen: () => seen };
}
