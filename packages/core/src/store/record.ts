import { createRequire } from 'node:module';
import { crc32, zstdDecompressSync } from 'node:zlib';
import { CorruptBlockError, LazytreeError } from '../errors.js';
import { MAX_BLOCK_BYTES } from '../format/limits.js';
import {
  type Codec,
  DAG_CBOR,
  DIGEST_BYTES,
  formatLink,
  type Link,
  linkCodec,
  linkDigest,
  makeLink,
  RAW,
} from '../format/link.js';
import { unsnappy } from '../wasm/snappy-decoder.js';
import { createSnappyEncoder, type SnappyEffort, type SnappyEncoder } from '../wasm/snappy-encoder.js';

/**
 * A record is a block with all that is needed to find it again without an index. Little-endian:
 *
 *     0  magic "LZR1"         12  stored bytes
 *     4  crc32 of the rest    16  raw bytes
 *     8  compression          20  digest
 *     9  codec of the CID     52  payload, as stored
 *    10  zero
 */
export const RECORD_HEADER = 52;
const MAGIC = 0x31525a4c;

export const Compression = { none: 0, snappy: 1, zstd: 2 } as const;
export type CompressionCode = (typeof Compression)[keyof typeof Compression];

export interface RecordHeader {
  crc: number;
  compression: CompressionCode;
  link: Link;
  /** Payload bytes in the record. */
  stored: number;
  /** Payload bytes once decompressed. */
  raw: number;
}

/** A record in a batch of them: what it holds and where in the batch it begins. */
export interface BatchedRecord {
  digest: string;
  offset: number;
  stored: number;
  raw: number;
  compression: CompressionCode;
}

/** Compression has to save at least this part of the bytes to be worth undoing on every read. */
const WORTH = 1 / 32;
const SHORTEST = 32;
/** Of the blocks of a store. */
export const RECORD_EFFORT: SnappyEffort = 'quick';

/** Larger blocks are decoded faster by the addon than by WebAssembly, smaller ones are not. */
const ADDON_BYTES = 64 << 10;

type Snappy = typeof import('snappy');
let snappy: Snappy | undefined;
let encoder: SnappyEncoder | undefined;

/**
 * The shortest form of `bytes`: snappy, or as they are where that does not help. The payload is valid until the
 * next call.
 */
export function compress(
  bytes: Uint8Array,
  encode: SnappyEncoder = ownEncoder,
): { compression: CompressionCode; payload: Uint8Array } {
  if (bytes.length >= SHORTEST) {
    const payload = encode(bytes);
    if (payload.length <= bytes.length * (1 - WORTH)) return { compression: Compression.snappy, payload };
  }
  return { compression: Compression.none, payload: bytes };
}

function ownEncoder(bytes: Uint8Array): Uint8Array {
  encoder ??= createSnappyEncoder(RECORD_EFFORT);
  return encoder(bytes);
}

/** A record's payload does not decompress to what its header says. */
export class PayloadError extends Error {}

/**
 * Undoes {@link compress} and its zstd sibling.
 *
 * @param raw what the header says; nothing larger is ever allocated
 * @throws PayloadError when the payload does not decompress to exactly that
 */
export function decompress(compression: CompressionCode, payload: Uint8Array, raw: number): Uint8Array {
  const bytes = plain(compression, payload, raw);
  if (bytes.length !== raw) throw new PayloadError(`${bytes.length} bytes where the record says ${raw}`);
  return bytes;
}

function plain(compression: CompressionCode, payload: Uint8Array, raw: number): Uint8Array {
  switch (compression) {
    case Compression.none:
      return payload;
    case Compression.snappy: {
      const bytes = raw < ADDON_BYTES ? unsnappy(payload, raw) : uncompress(payload, raw);
      if (!bytes) throw new PayloadError(`it is no snappy block of the ${raw} bytes that the record says`);
      return bytes;
    }
    case Compression.zstd:
      try {
        return zstdDecompressSync(payload, { maxOutputLength: Math.max(raw, 1) });
      } catch (cause) {
        throw new PayloadError((cause as Error).message, { cause });
      }
    default:
      throw new PayloadError(`unknown compression ${compression}`);
  }
}

/** Writes a record at `at` and returns its end. `target` has room for it. */
export function writeRecord(
  target: Buffer,
  at: number,
  block: { codec: Codec; digest: string; raw: number; compression: CompressionCode; payload: Uint8Array },
): number {
  const { codec, digest, raw, compression, payload } = block;
  const end = at + RECORD_HEADER + payload.length;
  target.writeUInt32LE(MAGIC, at);
  target.writeUInt32LE(compression | (codec << 8), at + 8);
  target.writeUInt32LE(payload.length, at + 12);
  target.writeUInt32LE(raw, at + 16);
  target.write(digest, at + 20, DIGEST_BYTES, 'latin1');
  target.set(payload, at + RECORD_HEADER);
  target.writeUInt32LE(crc32(target.subarray(at + 8, end)), at + 4);
  return end;
}

/** With the addon, which is loaded by the first block that is worth it. */
function uncompress(payload: Uint8Array, raw: number): Uint8Array | undefined {
  // Nothing is allocated for a size that only the payload claims.
  if (snappyLength(payload) !== raw) return undefined;
  snappy ??= createRequire(import.meta.url)('snappy') as Snappy;
  try {
    // A buffer of the addon's own would cost a finalizer, and many of them the garbage collector's attention.
    return snappy.uncompressSync(payload as Buffer, { asBuffer: true, copyOutputData: true }) as Buffer;
  } catch {
    // What is no snappy block is told of by the caller, whichever decoder has found it out.
    return undefined;
  }
}

/** The length varint that starts a snappy block (google/snappy format_description.txt, section 1). */
function snappyLength(payload: Uint8Array): number {
  let length = 0;
  for (let i = 0, scale = 1; i < 5 && i < payload.length; i++, scale *= 128) {
    length += (payload[i] & 127) * scale;
    if (payload[i] < 128) return length;
  }
  return -1;
}

/** The record of one block, compressed with snappy where that helps. */
export function encodeRecord(link: Link, bytes: Uint8Array): Buffer {
  if (bytes.length > MAX_BLOCK_BYTES) {
    throw new LazytreeError(
      'UNSUPPORTED',
      `a block of ${bytes.length} bytes; the limit is ${MAX_BLOCK_BYTES}`,
    );
  }
  const { compression, payload } = compress(bytes);
  const record = Buffer.allocUnsafeSlow(RECORD_HEADER + payload.length);
  const block = { codec: linkCodec(link), digest: link.slice(1), raw: bytes.length, compression, payload };
  writeRecord(record, 0, block);
  return record;
}

/** The records of some blocks, one after another, each compressed where that helps. */
export function encodeRecords(blocks: readonly { link: Link; bytes: Uint8Array }[]): Buffer {
  const most = blocks.reduce((sum, { bytes }) => sum + RECORD_HEADER + bytes.length, 0);
  const records = Buffer.allocUnsafeSlow(most);
  let end = 0;
  for (const { link, bytes } of blocks) {
    const block = { codec: linkCodec(link), digest: linkDigest(link), raw: bytes.length, ...compress(bytes) };
    end = writeRecord(records, end, block);
  }
  return records.subarray(0, end);
}

/** The header at `at`, or undefined when what is there cannot be one. The crc is not checked here. */
export function readRecordHeader(bytes: Buffer, at: number): RecordHeader | undefined {
  if (at + RECORD_HEADER > bytes.length || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  const compression = bytes[at + 8] as CompressionCode;
  const codec = bytes[at + 9];
  const stored = bytes.readUInt32LE(at + 12);
  const raw = bytes.readUInt32LE(at + 16);
  if (codec !== RAW && codec !== DAG_CBOR) return undefined;
  if (compression > Compression.zstd || raw > MAX_BLOCK_BYTES || stored > raw) return undefined;
  if (bytes.readUInt16LE(at + 10) !== 0) return undefined;
  const link = makeLink(codec, bytes.toString('latin1', at + 20, at + 20 + DIGEST_BYTES));
  return { crc: bytes.readUInt32LE(at + 4), compression, link, stored, raw };
}

/** What a record says that this process has just written, unchecked. */
export function ownRecord(bytes: Buffer, at: number): BatchedRecord {
  if (bytes.readUInt32LE(at) !== MAGIC) throw new Error('a batch of records with something else in it');
  return {
    digest: bytes.toString('latin1', at + 20, at + 20 + DIGEST_BYTES),
    offset: at,
    stored: bytes.readUInt32LE(at + 12),
    raw: bytes.readUInt32LE(at + 16),
    compression: bytes[at + 8] as CompressionCode,
  };
}

/** Why the whole record at `at` is not what was written there, or undefined. */
export function recordProblem(bytes: Buffer, at: number, header: RecordHeader): string | undefined {
  const end = at + RECORD_HEADER + header.stored;
  if (end > bytes.length) return 'its record is cut short';
  return crc32(bytes.subarray(at + 8, end)) === header.crc ? undefined : 'its checksum does not match';
}

/** The payload of the record at `at`, decompressed. @throws PayloadError */
export function recordContent(bytes: Buffer, at: number, header: RecordHeader): Uint8Array {
  const start = at + RECORD_HEADER;
  return decompress(header.compression, bytes.subarray(start, start + header.stored), header.raw);
}

/**
 * The block in a record that an index says to be that of `link`.
 *
 * @param directory of the store, for the error
 * @throws CorruptBlockError
 */
export function blockOfRecord(link: Link, record: Buffer, directory: string): Uint8Array {
  const header = checkRecord(link, record, directory);
  try {
    return recordContent(record, 0, header);
  } catch (error) {
    if (!(error instanceof PayloadError)) throw error;
    throw new CorruptBlockError(formatLink(link), directory, error.message);
  }
}

/** The header of a record that an index says to be that of `link`. @throws CorruptBlockError */
export function checkRecord(link: Link, record: Buffer, directory: string): RecordHeader {
  const header = readRecordHeader(record, 0);
  const problem = !header
    ? 'its record has no valid header'
    : linkDigest(header.link) !== linkDigest(link)
      ? 'its record is of another block'
      : recordProblem(record, 0, header);
  if (!header || problem) throw new CorruptBlockError(formatLink(link), directory, problem ?? '');
  return header;
}
