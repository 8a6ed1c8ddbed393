/** A pointer is at most this long (git-lfs, docs/spec.md). */
const MAX_POINTER = 1024;
const BEGINNING = Buffer.from('version https://git-lfs.github.com/spec/v1\n');
/** Names that a note gives. */
const SHOWN = 3;

/** Finds the files whose content is not here, but a note of Git LFS of what it is. */
export function createPointerCount() {
  let count = 0;
  const shown: string[] = [];
  return {
    look(path: string, content: Buffer): void {
      if (content.length > MAX_POINTER || !content.subarray(0, BEGINNING.length).equals(BEGINNING)) return;
      count++;
      if (shown.length < SHOWN) shown.push(JSON.stringify(path));
    },
    notes(): string[] {
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
