/** Takes a stream apart: lines, and so many bytes. */
export interface ByteReader {
  /** Up to the next newline, without it; undefined at the end. */
  line(): Promise<string | undefined>;
  /** Exactly so many bytes, which may be a part of the stream's own memory. */
  take(bytes: number): Promise<Buffer>;
  /** So many bytes in pieces, all of which have to be taken before anything else. */
  pieces(bytes: number): AsyncGenerator<Buffer>;
}

/** Characters of a line, more than any has. */
const MAX_LINE = 8192;
const NEWLINE = 10;

/** @param ended the error for a stream that ends in the middle of something */
export function createByteReader(stream: AsyncIterable<Buffer>, ended: () => Error): ByteReader {
  const source = stream[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);
  let at = 0;

  /** Adds what comes next to what is held. False at the end. */
  async function more(): Promise<boolean> {
    const { done, value } = await source.next();
    if (done) return false;
    held = at === held.length ? value : Buffer.concat([held.subarray(at), value]);
    at = 0;
    return true;
  }

  return {
    async line() {
      for (;;) {
        const newline = held.indexOf(NEWLINE, at);
        if (newline >= 0) {
          const text = held.toString('latin1', at, newline);
          at = newline + 1;
          return text;
        }
        if (held.length - at > MAX_LINE) throw ended();
        if (await more()) continue;
        if (at === held.length) return undefined;
        throw ended();
      }
    },
    async take(bytes) {
      if (held.length - at < bytes) {
        const taken = Buffer.allocUnsafe(bytes);
        let filled = held.copy(taken, 0, at);
        for (at = held.length; filled < bytes; ) {
          if (!(await more())) throw ended();
          at = Math.min(held.length, bytes - filled);
          filled += held.copy(taken, filled, 0, at);
        }
        return taken;
      }
      at += bytes;
      return held.subarray(at - bytes, at);
    },
    async *pieces(bytes) {
      for (let left = bytes; left > 0; ) {
        if (at === held.length && !(await more())) throw ended();
        const piece = held.subarray(at, at + left);
        at += piece.length;
        left -= piece.length;
        yield piece;
      }
    },
  };
}
