/** Bytes of blocks that are remembered. */
const MOST_BYTES = 64 << 20;

/** Blocks that the store cannot take, so that a tree can be read through: in memory, the least recently used go first. */
export interface SpareBlocks {
  add(digest: string, content: Uint8Array): void;
  find(digest: string): Uint8Array | undefined;
}

export function createSpareBlocks(): SpareBlocks {
  const blocks = new Map<string, Uint8Array>();
  let bytes = 0;

  function drop(digest: string): void {
    bytes -= blocks.get(digest)?.length ?? 0;
    blocks.delete(digest);
  }

  return {
    add(digest, content) {
      drop(digest);
      // A content may be a part of a whole answer, which is not to be kept for it.
      blocks.set(digest, Buffer.from(content));
      bytes += content.length;
      for (const oldest of blocks.keys()) {
        if (bytes <= MOST_BYTES) break;
        drop(oldest);
      }
    },
    find(digest) {
      const content = blocks.get(digest);
      if (!content) return undefined;
      blocks.delete(digest);
      blocks.set(digest, content);
      return content;
    },
  };
}
