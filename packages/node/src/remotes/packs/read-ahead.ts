/** Says how much of a pack to read behind what is wanted now: who reads a tree in its order wants what follows. */
export interface ReadAhead {
  /** @returns bytes to read behind `end` */
  behind(range: { pack: string; start: number; end: number }): number;
}

const FIRST_BYTES = 512 << 10;
const MOST_BYTES = 4 << 20;
/** Who jumps no further ahead goes on reading. */
const GAP = 256 << 10;
/** Readers that are told apart. */
const MOST_READERS = 16;

interface Reader {
  pack: string;
  start: number;
  end: number;
  ahead: number;
}

/** Twice as much each time that a reader goes on where it was. */
export function createReadAhead(): ReadAhead {
  const readers: Reader[] = [];
  return {
    behind({ pack, start, end }) {
      const at = readers.findIndex(
        (reader) => reader.pack === pack && start >= reader.start && start <= reader.end + GAP,
      );
      const before = at < 0 ? undefined : readers.splice(at, 1)[0];
      const ahead = before ? Math.min(MOST_BYTES, Math.max(FIRST_BYTES, before.ahead * 2)) : 0;
      readers.unshift({ pack, start, end: end + ahead, ahead });
      readers.length = Math.min(readers.length, MOST_READERS);
      return ahead;
    },
  };
}
