import { isUtf8 } from 'node:buffer';

/**
 * Names are strings everywhere in the engine. A byte that is not part of valid UTF-8 becomes the lone surrogate
 * U+DC00 + byte, and goes back to that byte on the way out (PEP 383 "surrogateescape"): every byte sequence
 * has one string form, and no valid UTF-8 has lone surrogates, so nothing is lost and nothing is confused.
 */
const ESCAPE = 0xdc00;

export function nameFromBytes(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return isUtf8(buffer) ? buffer.toString('utf8') : escapeInvalid(buffer);
}

function escapeInvalid(buffer: Buffer): string {
  let text = '';
  for (let at = 0; at < buffer.length; ) {
    const length = sequenceLength(buffer, at);
    if (length === 0) text += String.fromCharCode(ESCAPE + buffer[at++]);
    else {
      text += buffer.toString('utf8', at, at + length);
      at += length;
    }
  }
  return text;
}

/** Length of the valid UTF-8 sequence at `at`, or 0. */
function sequenceLength(buffer: Buffer, at: number): number {
  const lead = buffer[at];
  const length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  return length > 0 && at + length <= buffer.length && isUtf8(buffer.subarray(at, at + length)) ? length : 0;
}

export function nameToBytes(name: string): Buffer {
  if (name.isWellFormed()) return Buffer.from(name, 'utf8');
  const parts: Buffer[] = [];
  for (const char of name) {
    const code = char.charCodeAt(0);
    const lone = char.length === 1 && code >= 0xdc80 && code <= 0xdcff;
    parts.push(lone ? Buffer.of(code - ESCAPE) : Buffer.from(char, 'utf8'));
  }
  return Buffer.concat(parts);
}

/** A path as `node:fs` wants it: text where that is exact, bytes otherwise. */
export function toFsPath(path: string): string | Buffer {
  return path.isWellFormed() ? path : nameToBytes(path);
}

const SURROGATE = /[\ud800-\udfff]/;

/**
 * Orders names by their bytes, which is the order of entries in a directory node. UTF-16 order is the same
 * unless a surrogate is involved, in a pair or as an escaped byte.
 */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left === right) continue;
    if (isSurrogate(left) || isSurrogate(right)) return Buffer.compare(nameToBytes(a), nameToBytes(b));
    return left - right;
  }
  return a.length - b.length;
}

function isSurrogate(unit: number): boolean {
  return (unit & 0xf800) === 0xd800;
}

/** Sorts what has names as {@link compareNames} does, and returns it. */
export function sortByName<T extends { name: string }>(items: T[]): T[] {
  if (items.some(({ name }) => SURROGATE.test(name)))
    return items.sort((a, b) => compareNames(a.name, b.name));
  return items.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** Why `name` cannot stand in a directory, or undefined when it can. */
export function nameProblem(name: string): string | undefined {
  if (name === '') return 'an empty name';
  if (name === '.' || name === '..') return `the name '${name}'`;
  if (name.includes('/')) return 'a name with a slash';
  if (name.includes('\0')) return 'a name with a NUL byte';
  return undefined;
}
