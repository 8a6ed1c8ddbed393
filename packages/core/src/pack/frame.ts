import { crc32 } from 'node:zlib';
import { LazytreeError } from '../errors.js';
import { MAX_BLOCK_BYTES } from '../format/limits.js';
import { type Codec, DAG_CBOR, RAW } from '../format/link.js';
import { decompressFrame } from '../image/frame-compression.js';
import { Compression, type CompressionCode } from '../store/record.js';

/**
 * A frame is to several blocks what a record is to one (docs/remotes.md). Little-endian:
 *
 *     0  magic "LZP1"         12  stored bytes
 *     4  crc32 of the rest    16  raw bytes
 *     8  compression          20  blocks
 *     9  codec of all CIDs    24  payload, as stored
 *    10  zero
 *
 * The payload, decompressed, is the length of each block (u32), then the blocks. Their digests are not in it: they would
 * not compress, and who reads a block hashes it anyway.
 */
export const FRAME_HEADER = 24;
const MAGIC = 0x31505a4c;
/** Raw bytes. A writer stays well below. */
export const MAX_FRAME_BYTES = 16 << 20;
/** So that a place in a frame is two bytes. */
export const MAX_FRAME_BLOCKS = 65_536;
/** Of a block's length, before it. */
export const LENGTH_BYTES = 4;

export interface FrameHeader {
  compression: CompressionCode;
  codec: Codec;
  /** Bytes of the payload. */
  stored: number;
  raw: number;
  blocks: number;
  crc: number;
}

/** What a frame is made of, once its payload has been compressed. */
export interface FramePayload {
  compression: CompressionCode;
  codec: Codec;
  raw: number;
  blocks: number;
  payload: Uint8Array;
}

/** The header that goes before the payload. */
export function encodeFrameHeader({ compression, codec, raw, blocks, payload }: FramePayload): Buffer {
  const header = Buffer.alloc(FRAME_HEADER);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(compression | (codec << 8), 8);
  header.writeUInt32LE(payload.length, 12);
  header.writeUInt32LE(raw, 16);
  header.writeUInt32LE(blocks, 20);
  header.writeUInt32LE(crc32(payload, crc32(header.subarray(8))), 4);
  return header;
}

/** What comes before the blocks in a frame's payload. */
export function encodeLengths(lengths: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafeSlow(lengths.length * LENGTH_BYTES);
  lengths.forEach((length, i) => {
    bytes.writeUInt32LE(length, i * LENGTH_BYTES);
  });
  return bytes;
}

/** The header at `at`. Its checksum is not looked at. @param where for the error @throws LazytreeError CORRUPT */
export function readFrameHeader(bytes: Buffer, at: number, where: string): FrameHeader {
  if (at + FRAME_HEADER > bytes.length || bytes.readUInt32LE(at) !== MAGIC)
    throw damaged(where, 'there is no frame');
  const compression = bytes[at + 8] as CompressionCode;
  const codec = bytes[at + 9];
  const stored = bytes.readUInt32LE(at + 12);
  const raw = bytes.readUInt32LE(at + 16);
  const blocks = bytes.readUInt32LE(at + 20);
  const isValid =
    (codec === RAW || codec === DAG_CBOR) &&
    compression <= Compression.zstd &&
    bytes.readUInt16LE(at + 10) === 0 &&
    raw <= MAX_FRAME_BYTES &&
    stored <= raw &&
    blocks > 0 &&
    blocks <= MAX_FRAME_BLOCKS &&
    blocks * LENGTH_BYTES <= raw;
  if (!isValid) throw damaged(where, 'its header is not valid');
  return { compression, codec: codec as Codec, stored, raw, blocks, crc: bytes.readUInt32LE(at + 4) };
}

/**
 * The blocks of the whole frame at `at`, in their order, as parts of one buffer. None of them has been hashed.
 *
 * @throws LazytreeError CORRUPT
 */
export function readFrame(bytes: Buffer, at: number, where: string): { codec: Codec; blocks: Buffer[] } {
  const { compression, codec, stored, raw, blocks: count, crc } = readFrameHeader(bytes, at, where);
  const end = at + FRAME_HEADER + stored;
  if (end > bytes.length) throw damaged(where, 'it is cut short');
  if (crc32(bytes.subarray(at + 8, end)) !== crc) throw damaged(where, 'its checksum does not match');
  const content = plain(compression, bytes.subarray(at + FRAME_HEADER, end), { raw, where });
  const blocks: Buffer[] = [];
  let start = count * LENGTH_BYTES;
  for (let i = 0; i < count; i++) {
    const length = content.readUInt32LE(i * LENGTH_BYTES);
    if (length > MAX_BLOCK_BYTES || start + length > raw) throw damaged(where, 'a block that does not fit');
    blocks.push(content.subarray(start, start + length));
    start += length;
  }
  if (start !== raw) throw damaged(where, 'its blocks do not fill it');
  return { codec, blocks };
}

function plain(
  compression: CompressionCode,
  payload: Buffer,
  { raw, where }: { raw: number; where: string },
): Buffer {
  try {
    const bytes = decompressFrame(compression, payload, raw);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  } catch (cause) {
    throw damaged(where, 'it does not decompress', cause);
  }
}

function damaged(where: string, what: string, cause?: unknown): LazytreeError {
  return new LazytreeError('CORRUPT', `${where} is damaged: ${what}`, { cause });
}
