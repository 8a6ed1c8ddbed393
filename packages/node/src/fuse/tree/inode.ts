/**
 * Inode numbers that are the same in every process: of the path and the content, so that equal files of one tree
 * have two. 52 bits, which a double holds.
 */
export function inodeOf(path: number, content: string): number {
  let high = 0;
  let low = 0;
  for (let i = 1; i < 4 && i < content.length; i++) high = (high << 8) | (content.charCodeAt(i) & 255);
  for (let i = 4; i < 8 && i < content.length; i++) low = (low << 8) | (content.charCodeAt(i) & 255);
  const bottom = mix(low ^ path) >>> 0;
  const top = mix(high ^ bottom ^ content.length) & 0xfffff;
  // 0 is no inode, and 1 is the top of the file system.
  return top * 0x1_0000_0000 + bottom || 2;
}

/** A hash of `text` as it follows on what `before` is the hash of: 32-bit FNV-1a. */
export function pathHash(text: string, before = 0x811c9dc5): number {
  let hash = before;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}

/** The finalizer of MurmurHash3. */
function mix(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
