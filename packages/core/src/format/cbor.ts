import { isUtf8 } from 'node:buffer';
import { InvalidNodeError } from '../errors.js';
import { MAX_BLOCK_BYTES } from './limits.js';
import { DAG_CBOR, DIGEST_BYTES, type Link, makeLink, RAW } from './link.js';
import { nameFromBytes, nameToBytes } from './name.js';

/**
 * The subset of DAG-CBOR (https://ipld.io/specs/codecs/dag-cbor/spec/) that nodes are made of: integers, byte
 * and text strings, arrays, maps with fixed text keys, links (tag 42) and null. The reader accepts one encoding
 * for each value (RFC 8949 section 4.2.1) and never looks past the end of its input.
 */
const UINT = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const NULL = 0xf6;

/** d8 2a 58 25 00 01 codec 12 20: tag 42, 37 bytes, identity multibase, CIDv1, codec, sha2-256, 32 bytes. */
const LINK_PREFIX_BYTES = 9;
const LINK_BYTES = LINK_PREFIX_BYTES + DIGEST_BYTES;
const SHORT_TEXT = 48;

export interface CborWriter {
  /** Bytes written since the last reset. */
  length(): number;
  reset(): void;
  uint(value: number): void;
  int(value: number): void;
  text(value: string): void;
  /** A text string when the name is valid UTF-8, a byte string otherwise. */
  name(value: string): void;
  array(length: number): void;
  map(length: number): void;
  link(value: Link): void;
  nothing(): void;
  /** Bytes that are CBOR already. */
  raw(bytes: Uint8Array): void;
  /** A copy of the bytes written from `start` on. */
  take(start?: number): Buffer;
}

/** A writer over one buffer that grows by doubling; the caller's limits keep it small. */
export function createCborWriter(): CborWriter {
  let buffer = Buffer.allocUnsafeSlow(64 << 10);
  let at = 0;

  function room(bytes: number): void {
    if (at + bytes <= buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(buffer.length * 2, at + bytes));
    buffer.copy(larger, 0, 0, at);
    buffer = larger;
  }

  function head(major: number, value: number): void {
    room(9);
    const type = major << 5;
    if (value < 24) buffer[at++] = type | value;
    else if (value < 0x100) {
      buffer[at++] = type | 24;
      buffer[at++] = value;
    } else if (value < 0x10000) {
      buffer[at++] = type | 25;
      buffer[at++] = value >>> 8;
      buffer[at++] = value & 0xff;
    } else if (value < 0x100000000) {
      buffer[at++] = type | 26;
      at = buffer.writeUInt32BE(value, at);
    } else {
      buffer[at++] = type | 27;
      at = buffer.writeUInt32BE(Math.floor(value / 0x100000000), at);
      at = buffer.writeUInt32BE(value % 0x100000000, at);
    }
  }

  /** Writes a short text of ASCII alone, sooner than a call that encodes would begin. Returns whether it was one. */
  function shortText(value: string): boolean {
    const { length } = value;
    if (length > SHORT_TEXT) return false;
    room(2 + length);
    const start = length < 24 ? at + 1 : at + 2;
    for (let i = 0; i < length; i++) {
      const code = value.charCodeAt(i);
      if (code > 0x7f) return false;
      buffer[start + i] = code;
    }
    head(TEXT, length);
    at += length;
    return true;
  }

  function text(value: string): void {
    if (shortText(value)) return;
    const length = Buffer.byteLength(value, 'utf8');
    head(TEXT, length);
    room(length);
    at += buffer.write(value, at, length, 'utf8');
  }

  return {
    length: () => at,
    reset() {
      at = 0;
    },
    uint: (value) => head(UINT, value),
    int: (value) => (value < 0 ? head(NEGATIVE, -1 - value) : head(UINT, value)),
    text,
    name(value) {
      if (shortText(value)) return;
      if (value.isWellFormed()) return text(value);
      const bytes = nameToBytes(value);
      head(BYTES, bytes.length);
      room(bytes.length);
      at += bytes.copy(buffer, at);
    },
    array: (length) => head(ARRAY, length),
    map: (length) => head(MAP, length),
    link(value) {
      room(LINK_BYTES);
      buffer.writeUInt32BE(0xd82a5825, at);
      buffer.writeUInt16BE(0x0001, at + 4);
      buffer[at + 6] = value.charCodeAt(0);
      buffer.writeUInt16BE(0x1220, at + 7);
      for (let i = 0; i < DIGEST_BYTES; i++) buffer[at + LINK_PREFIX_BYTES + i] = value.charCodeAt(1 + i);
      at += LINK_BYTES;
    },
    nothing() {
      room(1);
      buffer[at++] = NULL;
    },
    raw(bytes) {
      room(bytes.length);
      buffer.set(bytes, at);
      at += bytes.length;
    },
    take: (start = 0) => Buffer.from(buffer.subarray(start, at)),
  };
}

export interface CborReader {
  uint(): number;
  int(): number;
  text(maxBytes: number): string;
  name(maxBytes: number): string;
  /** Element count; each element takes at least one byte, so it is bounded by the input. */
  array(): number;
  map(): number;
  /** Consumes a text key that must be exactly `key`. */
  key(key: string): void;
  link(): Link;
  /** Consumes a null and returns true, or leaves the input alone and returns false. */
  nothing(): boolean;
  end(): void;
}

/** @throws InvalidNodeError from every method, for input that is truncated, not canonical or of another type */
export function createCborReader(input: Uint8Array): CborReader {
  if (input.length > MAX_BLOCK_BYTES) {
    throw new InvalidNodeError(`${input.length} bytes, more than ${MAX_BLOCK_BYTES}`);
  }
  const buffer = Buffer.from(input.buffer, input.byteOffset, input.length);
  let at = 0;

  function fail(what: string): never {
    throw new InvalidNodeError(`${what} at byte ${at}`);
  }

  function need(bytes: number): void {
    if (at + bytes > buffer.length) fail('truncated');
  }

  function head(major: number, what: string): number {
    need(1);
    const first = buffer[at];
    if (first >>> 5 !== major) fail(`expected ${what}`);
    const info = first & 31;
    if (info < 24) {
      at += 1;
      return info;
    }
    if (info > 27) fail('indefinite or reserved length');
    const size = 1 << (info - 24);
    need(1 + size);
    const value =
      size === 1
        ? buffer[at + 1]
        : size === 2
          ? buffer.readUInt16BE(at + 1)
          : size === 4
            ? buffer.readUInt32BE(at + 1)
            : buffer.readUInt32BE(at + 1) * 0x100000000 + buffer.readUInt32BE(at + 5);
    if (value > Number.MAX_SAFE_INTEGER) fail('integer beyond 2^53');
    const least = size === 1 ? 24 : size === 2 ? 0x100 : size === 4 ? 0x10000 : 0x100000000;
    if (value < least) fail('integer not in its shortest form');
    at += 1 + size;
    return value;
  }

  /** Consumes a string, which ends where the next item begins, and returns where its bytes begin. */
  function string(major: number, what: string, maxBytes: number): number {
    const length = head(major, what);
    if (length > maxBytes) fail(`${what} of ${length} bytes, more than ${maxBytes}`);
    need(length);
    at += length;
    return at - length;
  }

  function isAscii(from: number, to: number): boolean {
    for (let i = from; i < to; i++) if (buffer[i] > 0x7f) return false;
    return true;
  }

  function text(maxBytes: number): string {
    const from = string(TEXT, 'text', maxBytes);
    // Most texts are short, and to decode UTF-8 takes longer than to see that there is nothing to decode.
    if (at - from <= SHORT_TEXT && isAscii(from, at)) return buffer.toString('latin1', from, at);
    const slice = buffer.subarray(from, at);
    if (!isUtf8(slice)) fail('text that is not UTF-8');
    return slice.toString('utf8');
  }

  function count(major: number, what: string): number {
    const length = head(major, what);
    if (length > buffer.length - at) fail(`${what} longer than its input`);
    return length;
  }

  return {
    uint: () => head(UINT, 'an unsigned integer'),
    int() {
      need(1);
      return buffer[at] >>> 5 === NEGATIVE ? -1 - head(NEGATIVE, 'an integer') : head(UINT, 'an integer');
    },
    text,
    name(maxBytes) {
      need(1);
      if (buffer[at] >>> 5 === TEXT) return text(maxBytes);
      const slice = buffer.subarray(string(BYTES, 'a name', maxBytes), at);
      if (isUtf8(slice)) fail('valid UTF-8 in a byte string');
      return nameFromBytes(slice);
    },
    array: () => count(ARRAY, 'an array'),
    map: () => count(MAP, 'a map'),
    key(key) {
      const found = text(64);
      if (found !== key) fail(`key '${found}' where '${key}' belongs`);
    },
    link() {
      need(LINK_BYTES);
      if (buffer.readUInt32BE(at) !== 0xd82a5825 || buffer.readUInt16BE(at + 4) !== 0x0001)
        fail('expected a link');
      const codec = buffer[at + 6];
      if (codec !== RAW && codec !== DAG_CBOR) fail('link with an unknown codec');
      if (buffer.readUInt16BE(at + 7) !== 0x1220) fail('link that is not sha2-256');
      const digest = buffer.toString('latin1', at + LINK_PREFIX_BYTES, at + LINK_BYTES);
      at += LINK_BYTES;
      return makeLink(codec, digest);
    },
    nothing() {
      need(1);
      if (buffer[at] !== NULL) return false;
      at += 1;
      return true;
    },
    end() {
      if (at !== buffer.length) fail(`${buffer.length - at} bytes too many`);
    },
  };
}
