import { IN_HEADER, Opcode } from './kernel.js';

/** What every request begins with (`struct fuse_in_header`). */
export interface RequestHeader {
  /** Bytes of the whole request. */
  length: number;
  opcode: number;
  /** Negative for one that comes again, because whoever has read it before did not answer (FUSE_UNIQUE_RESEND). */
  unique: number;
  node: number;
  /** The thread that asks, as this process sees it; 0 for none that it can see. */
  thread: number;
}

/** A request that the kernel cannot have meant. The connection is of no more use. */
export class ProtocolError extends Error {
  constructor(message: string) {
    super(`FUSE: ${message}`);
    this.name = 'ProtocolError';
  }
}

/** @throws ProtocolError when `bytes` is not one whole request */
export function decodeHeader(bytes: Buffer): RequestHeader {
  if (bytes.length < IN_HEADER) throw new ProtocolError(`a request of ${bytes.length} bytes`);
  const length = bytes.readUInt32LE(0);
  if (length !== bytes.length)
    throw new ProtocolError(`a request of ${length} bytes that came as ${bytes.length}`);
  return {
    length,
    opcode: bytes.readUInt32LE(4),
    unique: readUnique(bytes, 8),
    node: readUint64(bytes, 16),
    thread: bytes.readUInt32LE(32),
  };
}

/** @throws ProtocolError for more than 2^53 - 1, which nothing that we hand out or count to reaches */
function readUint64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at + 4) * 0x1_0000_0000 + bytes.readUInt32LE(at);
  if (!Number.isSafeInteger(value)) throw new ProtocolError('a number beyond 2^53');
  return value;
}

/** The uppermost bit is not part of the number, but has to be in the answer, too. */
function readUnique(bytes: Buffer, at: number): number {
  const high = bytes.readUInt32LE(at + 4);
  const value = (high & 0x7fff_ffff) * 0x1_0000_0000 + bytes.readUInt32LE(at);
  if (!Number.isSafeInteger(value)) throw new ProtocolError('a number beyond 2^53');
  return high & 0x8000_0000 ? -value : value;
}

function body(bytes: Buffer, atLeast: number): Buffer {
  if (bytes.length < IN_HEADER + atLeast) throw new ProtocolError('a request that is cut short');
  return bytes.subarray(IN_HEADER);
}

/** The name in a LOOKUP, without its NUL. */
export function decodeName(bytes: Buffer): Buffer {
  return nameAt(body(bytes, 1), 0);
}

function nameAt(from: Buffer, at: number): Buffer {
  const end = from.indexOf(0, at);
  if (end < 0) throw new ProtocolError('a name without an end');
  return from.subarray(at, end);
}

export interface InitIn {
  major: number;
  minor: number;
  /** Bytes. */
  maxReadahead: number;
  flags: number;
  /** The second 32; none of an older kernel. */
  flags2: number;
}

/** `struct fuse_init_in` */
export function decodeInit(bytes: Buffer): InitIn {
  const from = body(bytes, 16);
  return {
    major: from.readUInt32LE(0),
    minor: from.readUInt32LE(4),
    maxReadahead: from.readUInt32LE(8),
    flags: from.readUInt32LE(12),
    flags2: from.length >= 20 ? from.readUInt32LE(16) : 0,
  };
}

export interface Forgotten {
  node: number;
  lookups: number;
}

/** What a FORGET or a BATCH_FORGET gives back. */
export function decodeForget(header: RequestHeader, bytes: Buffer): Forgotten[] {
  if (header.opcode === Opcode.FORGET) {
    return [{ node: header.node, lookups: readUint64(body(bytes, 8), 0) }];
  }
  const from = body(bytes, 8);
  const count = from.readUInt32LE(0);
  if (from.length < 8 + count * 16) throw new ProtocolError(`a batch of ${count} that is cut short`);
  return Array.from({ length: count }, (_, i) => ({
    node: readUint64(from, 8 + i * 16),
    lookups: readUint64(from, 16 + i * 16),
  }));
}

export interface ReadIn {
  offset: number;
  /** Bytes. */
  size: number;
}

/**
 * `struct fuse_read_in`, of READ, READDIR and READDIRPLUS. Anyone can seek a directory to 2^63 - 1: offsets that a
 * number does not hold are all beyond the end of everything.
 */
export function decodeRead(bytes: Buffer): ReadIn {
  const from = body(bytes, 24);
  const offset = Math.min(Number(from.readBigUInt64LE(8)), Number.MAX_SAFE_INTEGER);
  return { offset, size: from.readUInt32LE(16) };
}

export interface XattrIn {
  /** Bytes that the caller has room for; 0 asks how many are needed. */
  size: number;
  name: string;
}

/** GETXATTR. The names that we know are ASCII; others matter only in that they are not those. */
export function decodeGetxattr(bytes: Buffer): XattrIn {
  const from = body(bytes, 9);
  return { size: from.readUInt32LE(0), name: nameAt(from, 8).toString('latin1') };
}

export function decodeListxattr(bytes: Buffer): { size: number } {
  return { size: body(bytes, 8).readUInt32LE(0) };
}

/** The request that an INTERRUPT is about. */
export function decodeInterrupt(bytes: Buffer): { unique: number } {
  return { unique: readUnique(body(bytes, 8), 0) };
}
