import type { TreeWriter } from '@lazytree/core';

/** A pointer is at most this long (git-lfs, docs/spec.md). */
const MAX_POINTER = 1024;
const BEGINNING = Buffer.from('version https://git-lfs.github.com/spec/v1\n');
/** Names that a note gives. */
const SHOWN = 3;

/** Finds the files whose content is not here, but a note of Git LFS of what it is. */
interface PointerCount {
  look(path: string, content: Uint8Array): void;
  /** Looks at content that goes by. */
  watch(path: string, content: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array>;
  /** What was found, in a line. */
  notes(): string[];
}

export function createPointerCount(): PointerCount {
  let count = 0;
  const shown: string[] = [];

  function look(path: string, content: Uint8Array): void {
    if (!isPointer(content)) return;
    count++;
    if (shown.length < SHOWN) shown.push(JSON.stringify(path));
  }

  return {
    look,
    async *watch(path, content) {
      const held: Uint8Array[] = [];
      let bytes = 0;
      for await (const piece of content) {
        bytes += piece.length;
        if (bytes <= MAX_POINTER) held.push(piece);
        yield piece;
      }
      if (bytes <= MAX_POINTER) look(path, Buffer.concat(held));
    },
    notes() {
      if (count === 0) return [];
      const names = `${shown.join(', ')}${count > shown.length ? ', …' : ''}`;
      return [
        count === 1
          ? `a file is a pointer of Git LFS, not the content: ${names}`
          : `${count} files are pointers of Git LFS, not the content: ${names}`,
      ];
    },
  };
}

function isPointer(content: Uint8Array): boolean {
  return content.length <= MAX_POINTER && BEGINNING.equals(content.subarray(0, BEGINNING.length));
}

/** A writer that writes as another one, and looks at what is written. */
export function notingPointers(tree: TreeWriter): {
  writer: TreeWriter;
  notes(): string[];
  is(content: Uint8Array): boolean;
} {
  const pointers = createPointerCount();
  const writer: TreeWriter = {
    ...tree,
    file(path, content, options) {
      if (!(content instanceof Uint8Array)) return tree.file(path, pointers.watch(path, content), options);
      pointers.look(path, content);
      return tree.file(path, content, options);
    },
  };
  return { writer, notes: pointers.notes, is: isPointer };
}
