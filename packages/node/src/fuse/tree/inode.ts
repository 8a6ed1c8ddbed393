/**
 * Inode numbers that are the same in every process: of the path and the content, so that equal files of one tree
 * have two. 52 bits, which a double holds.
 */
export function inodeOf(path: number, content: string): number {
  const pathHigh = Math.floor(path / 0x1_0000_0000);
  let high = 0;
  let low = 0;
  for (let i = 1; i < 4 && i < content.length; i++) high = (high << 8) | (content.charCodeAt(i) & 255);
  for (let i = 4; i < 8 && i < content.length; i++) low = (low << 8) | (content.charCodeAt(i) & 255);
  const bottom = mix(low ^ (path >>> 0)) >>> 0;
  const top = mix(high ^ bottom ^ pathHigh ^ content.length) & 0xfffff;
  // 0 is no inode, and 1 is the top of the file system.
  return top * 0x1_0000_0000 + bottom || 2;
}

/**
 * A hash of `text` as it follows on what `before` is the hash of. 52 bits as well: of hundreds of thousands of equal
 * files in one tree no two may be one file to `cp`. 32-bit FNV-1a, and above it 20 bits of another hash.
 */
export function pathHash(text: string, before = 0x811c9dc5): number {
  let low = before | 0;
  let high = Math.floor(before / 0x1_0000_0000);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    low = Math.imul(low ^ unit, 0x01000193);
    high = Math.imul(high ^ unit, 0x9e3779b1) >>> 12;
  }
  return high * 0x1_0000_0000 + (low >>> 0);
}

/** The finalizer of MurmurHash3. */
function mix(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
