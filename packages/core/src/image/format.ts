import { endianness } from 'node:os';
import { crc32 } from 'node:zlib';
import { LazytreeError } from '../errors.js';
import { MAX_BLOCK_BYTES } from '../format/limits.js';
import {
  type Codec,
  DAG_CBOR,
  DIGEST_BYTES,
  LINK_LENGTH,
  type Link,
  linkDigest,
  makeLink,
  RAW,
} from '../format/link.js';
import { Compression, type CompressionCode } from '../store/record.js';

/**
 * The layout of an image, version 1 (docs/image.md): header, frames back to back, index, trailer. Numbers are
 * little-endian.
 *
 * Header:  0  magic "LZTIMG1\n"    8  zero
 *
 * Trailer: 0  offset of the index (u64)    16  crc32 of it as stored    28  crc32 of the 28 bytes before
 *          8  its stored bytes             20  its compression          32  magic "LZTIMGE\n"
 *         12  its raw bytes                24  zero
 *
 * Index:   0  roots   4  frames   8  blocks   12  zero, then in columns
 *          roots      codec and digest, 33 bytes
 *          frames     stored bytes, raw bytes, crc32 as stored, compression; in the order of the file
 *          blocks     in ascending order of digest: all digests, then all codecs (u8), then all frame numbers,
 *                     all offsets in the frame, all lengths
 */
export const HEADER_BYTES = 16;
export const TRAILER_BYTES = 40;
/** Raw bytes of a frame. A writer stays well below. */
const MAX_FRAME_BYTES = 16 << 20;
/** Raw bytes of an index: some 23 million blocks. */
const MAX_INDEX_BYTES = 2 ** 30;
const MAX_ROOTS = 4096;

const MAGIC = Buffer.from('LZTIMG1\n', 'latin1');
const END_MAGIC = Buffer.from('LZTIMGE\n', 'latin1');
const INDEX_HEADER = 16;
const FRAME_ENTRY = 16;
const BLOCK_ENTRY = DIGEST_BYTES + 1 + 4 + 4 + 4;
/** Digests do not compress, and an index is mostly digests. */
const INDEX_RATIO = 4;

/** A run of compressed bytes in the file. */
export interface Frame {
  stored: number;
  raw: number;
  /** Of the bytes as stored. */
  crc: number;
  compression: CompressionCode;
}

export interface PlacedFrame extends Frame {
  offset: number;
}

/** Blocks in the order in which they were put into frames, column by column. */
export interface WrittenBlocks {
  links: Link[];
  frames: number[];
  offsets: number[];
  lengths: number[];
}

/** The blocks of an image by their number, which follows the order of digests. */
export interface BlockTable {
  readonly count: number;
  /** The number of the block with this digest, or -1. */
  find(link: Link): number;
  link(block: number): Link;
  frame(block: number): number;
  offset(block: number): number;
  length(block: number): number;
}

export interface ImageIndex {
  roots: Link[];
  frames: PlacedFrame[];
  blocks: BlockTable;
}

const HINT = 'make the image again, or copy it again from where it came';

export function notAnImage(file: string): LazytreeError {
  return new LazytreeError('CORRUPT', `'${file}' is not a lazytree image`, {
    hint: 'name a file that `lazytree save` wrote',
  });
}

export function cutShort(file: string): LazytreeError {
  return new LazytreeError('CORRUPT', `the image '${file}' is cut short`, { hint: HINT });
}

export function damaged(file: string, what: string, cause?: unknown): LazytreeError {
  return new LazytreeError('CORRUPT', `the image '${file}' is damaged: ${what}`, { hint: HINT, cause });
}

export function encodeHeader(): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  return header;
}

/** @param header the first bytes of the file, fewer than a header when that is all there is */
export function checkHeader(header: Buffer, file: string): void {
  const start = header.subarray(0, MAGIC.length);
  if (!start.equals(MAGIC.subarray(0, start.length))) {
    const version = /^LZTIMG([2-9])\n$/.exec(start.toString('latin1'))?.[1];
    if (version === undefined) throw notAnImage(file);
    throw new LazytreeError('UNSUPPORTED', `'${file}' is an image of version ${version}, not 1`, {
      hint: 'use the version of lazytree that made it',
    });
  }
  if (header.length < HEADER_BYTES) throw header.length === 0 ? notAnImage(file) : cutShort(file);
  if (header.readBigUInt64LE(8) !== 0n) throw damaged(file, 'its header is not what was written');
}

export function encodeTrailer({ offset, stored, raw, crc, compression }: PlacedFrame): Buffer {
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeBigUInt64LE(BigInt(offset), 0);
  trailer.writeUInt32LE(stored, 8);
  trailer.writeUInt32LE(raw, 12);
  trailer.writeUInt32LE(crc, 16);
  trailer.writeUInt32LE(compression, 20);
  trailer.writeUInt32LE(crc32(trailer.subarray(0, 28)), 28);
  END_MAGIC.copy(trailer, 32);
  return trailer;
}

/**
 * Where the index is. It ends where the trailer begins, so that a file with anything missing or added is found.
 *
 * @param size of the whole file
 */
export function decodeTrailer(trailer: Buffer, size: number, file: string): PlacedFrame {
  if (trailer.length < TRAILER_BYTES || !trailer.subarray(32).equals(END_MAGIC)) throw cutShort(file);
  if (crc32(trailer.subarray(0, 28)) !== trailer.readUInt32LE(28) || trailer.readUInt32LE(24) !== 0) {
    throw damaged(file, 'its trailer is not what was written');
  }
  const frame = {
    offset: Number(trailer.readBigUInt64LE(0)),
    stored: trailer.readUInt32LE(8),
    raw: trailer.readUInt32LE(12),
    crc: trailer.readUInt32LE(16),
    compression: trailer.readUInt32LE(20) as CompressionCode,
  };
  if (frame.offset < HEADER_BYTES || frame.offset + frame.stored + TRAILER_BYTES !== size)
    throw cutShort(file);
  const problem = frameProblem(frame, Math.min(MAX_INDEX_BYTES, frame.stored * INDEX_RATIO + 4096));
  if (problem) throw damaged(file, `an index with ${problem}`);
  return frame;
}

function frameProblem({ stored, raw, compression }: Frame, limit: number): string | undefined {
  if (compression > Compression.zstd) return `compression ${compression}`;
  if (raw > limit) return `${raw} bytes, more than ${limit}`;
  if (stored > raw || (compression === Compression.none && stored !== raw))
    return `${stored} bytes for ${raw}`;
  return undefined;
}

/** The places of `links` in ascending order of digest. No digest comes twice. */
export function digestOrder(links: readonly Link[]): Uint32Array {
  const count = links.length;
  // A number holds the beginning of the digest and, below it, the block's: so they are sorted without a callback.
  const below = 2 ** Math.ceil(Math.log2(count + 1));
  const scale = 2 ** 53 / below / 2 ** 48;
  const keys = new Float64Array(count);
  for (let i = 0; i < count; i++) keys[i] = Math.floor(beginning(links[i]) * scale) * below + i;
  keys.sort();
  const order = Uint32Array.from(keys, (key) => key % below);
  const isSame = (a: number, b: number) => Math.floor(keys[a] / below) === Math.floor(keys[b] / below);
  const compare = (a: number, b: number) => (linkDigest(links[a]) < linkDigest(links[b]) ? -1 : 1);
  for (let from = 0; from < count; ) {
    let end = from + 1;
    while (end < count && isSame(from, end)) end++;
    if (end - from > 1) order.subarray(from, end).sort(compare);
    from = end;
  }
  return order;
}

/** The first 48 bits of the digest. */
function beginning(link: Link): number {
  const high = (link.charCodeAt(1) << 16) | (link.charCodeAt(2) << 8) | link.charCodeAt(3);
  const low = (link.charCodeAt(4) << 16) | (link.charCodeAt(5) << 8) | link.charCodeAt(6);
  return high * 0x1000000 + low;
}

/** @param order of the blocks, from {@link digestOrder} */
export function encodeIndex(
  roots: readonly Link[],
  frames: readonly Frame[],
  blocks: WrittenBlocks,
  order: Uint32Array,
): Buffer {
  const count = blocks.links.length;
  const bytes = INDEX_HEADER + roots.length * LINK_LENGTH + frames.length * FRAME_ENTRY + count * BLOCK_ENTRY;
  if (bytes > MAX_INDEX_BYTES) {
    throw new LazytreeError('UNSUPPORTED', `a tree of ${count} blocks is more than an image can index`, {
      hint: 'save its subdirectories on their own',
    });
  }
  const index = Buffer.allocUnsafeSlow(bytes);
  index.writeUInt32LE(roots.length, 0);
  index.writeUInt32LE(frames.length, 4);
  index.writeUInt32LE(count, 8);
  index.writeUInt32LE(0, 12);
  let at = INDEX_HEADER;
  for (const root of roots) at += index.write(root, at, LINK_LENGTH, 'latin1');
  for (const { stored, raw, crc, compression } of frames) {
    at = index.writeUInt32LE(stored, at);
    at = index.writeUInt32LE(raw, at);
    at = index.writeUInt32LE(crc, at);
    at = index.writeUInt32LE(compression, at);
  }
  for (const i of order) at += index.write(linkDigest(blocks.links[i]), at, DIGEST_BYTES, 'latin1');
  for (const i of order) index[at++] = blocks.links[i].charCodeAt(0);
  for (const column of [blocks.frames, blocks.offsets, blocks.lengths]) {
    for (const i of order) at = index.writeUInt32LE(column[i], at);
  }
  return index;
}

/**
 * Takes an index apart and checks it: frames fill the file from the header to the index, blocks are in order,
 * and fill their frames with nothing twice, so that no image unpacks to more than its frames hold.
 *
 * @param end where the index begins in the file
 */
export function decodeIndex(index: Buffer, end: number, file: string): ImageIndex {
  if (index.length < INDEX_HEADER) throw damaged(file, 'its index is too short');
  const [rootCount, frameCount, count, zero] = [0, 4, 8, 12].map((at) => index.readUInt32LE(at));
  const bytes = INDEX_HEADER + rootCount * LINK_LENGTH + frameCount * FRAME_ENTRY + count * BLOCK_ENTRY;
  if (bytes !== index.length || zero !== 0) throw damaged(file, 'its index has another length than it says');
  if (rootCount === 0 || rootCount > MAX_ROOTS) throw damaged(file, `an index with ${rootCount} roots`);
  const framesAt = INDEX_HEADER + rootCount * LINK_LENGTH;
  const roots: Link[] = [];
  for (let at = INDEX_HEADER; at < framesAt; at += LINK_LENGTH) {
    if (!isCodec(index[at])) throw damaged(file, 'a root with an unknown codec');
    roots.push(index.toString('latin1', at, at + LINK_LENGTH) as Link);
  }
  const blocksAt = framesAt + frameCount * FRAME_ENTRY;
  const frames = decodeFrames(index.subarray(framesAt, blocksAt), end, file);
  const columns = columnsOf(index.subarray(blocksAt), count);
  checkBlocks(columns, frames, file);
  return { roots, frames, blocks: createBlockTable(columns) };
}

function isCodec(code: number): code is Codec {
  return code === RAW || code === DAG_CBOR;
}

function decodeFrames(table: Buffer, end: number, file: string): PlacedFrame[] {
  const frames: PlacedFrame[] = [];
  let offset = HEADER_BYTES;
  for (let at = 0; at < table.length; at += FRAME_ENTRY) {
    const frame = {
      offset,
      stored: table.readUInt32LE(at),
      raw: table.readUInt32LE(at + 4),
      crc: table.readUInt32LE(at + 8),
      compression: table.readUInt32LE(at + 12) as CompressionCode,
    };
    const problem = frameProblem(frame, MAX_FRAME_BYTES);
    if (problem) throw damaged(file, `a frame with ${problem}`);
    offset += frame.stored;
    frames.push(frame);
  }
  if (offset !== end) throw damaged(file, 'its frames do not end where its index begins');
  return frames;
}

/** The columns of an index's blocks, as they lie in it. */
interface Columns {
  digests: Buffer;
  codecs: Buffer;
  frames: Uint32Array;
  offsets: Uint32Array;
  lengths: Uint32Array;
}

function columnsOf(table: Buffer, count: number): Columns {
  const codecsAt = count * DIGEST_BYTES;
  const numbersAt = codecsAt + count;
  // A copy, so that they are aligned: to read them one by one as bytes takes ten times as long.
  const numbers = Buffer.from(Uint8Array.from(table.subarray(numbersAt)).buffer);
  if (endianness() === 'BE') numbers.swap32();
  const column = (i: number) => new Uint32Array(numbers.buffer, i * count * 4, count);
  return {
    digests: table.subarray(0, codecsAt),
    codecs: table.subarray(codecsAt, numbersAt),
    frames: column(0),
    offsets: column(1),
    lengths: column(2),
  };
}

function createBlockTable({ digests, codecs, frames, offsets, lengths }: Columns): BlockTable {
  const wanted = Buffer.allocUnsafeSlow(DIGEST_BYTES);
  return {
    count: codecs.length,
    find(link) {
      wanted.write(linkDigest(link), 0, DIGEST_BYTES, 'latin1');
      let low = 0;
      for (let high = codecs.length - 1; low <= high; ) {
        const middle = (low + high) >>> 1;
        const at = middle * DIGEST_BYTES;
        const order = digests.compare(wanted, 0, DIGEST_BYTES, at, at + DIGEST_BYTES);
        if (order === 0) return middle;
        if (order < 0) low = middle + 1;
        else high = middle - 1;
      }
      return -1;
    },
    link(block) {
      const at = block * DIGEST_BYTES;
      return makeLink(codecs[block] as Codec, digests.toString('latin1', at, at + DIGEST_BYTES));
    },
    frame: (block) => frames[block],
    offset: (block) => offsets[block],
    length: (block) => lengths[block],
  };
}

function checkBlocks(columns: Columns, placed: readonly PlacedFrame[], file: string): void {
  const { digests, codecs, frames, offsets, lengths } = columns;
  const raw = Uint32Array.from(placed, (frame) => frame.raw);
  const filled = new Float64Array(raw.length);
  let before = -1;
  for (let block = 0; block < codecs.length; block++) {
    const frame = frames[block];
    const length = lengths[block];
    if (frame >= raw.length || offsets[block] + length > raw[frame])
      throw damaged(file, 'a block outside its frame');
    if (length > MAX_BLOCK_BYTES) throw damaged(file, `a block of ${length} bytes`);
    if (!isCodec(codecs[block])) throw damaged(file, 'a block with an unknown codec');
    const at = block * DIGEST_BYTES;
    const start = ((digests[at] << 16) | (digests[at + 1] << 8) | digests[at + 2]) * 256 + digests[at + 3];
    if (start < before || (start === before && !ascends(digests, at)))
      throw damaged(file, 'digests out of order');
    before = start;
    filled[frame] += length;
  }
  for (let frame = 0; frame < raw.length; frame++) {
    if (filled[frame] !== raw[frame]) throw damaged(file, 'a frame that its blocks do not fill');
  }
}

/** Whether the digest at `at` comes after the one before it. */
function ascends(digests: Buffer, at: number): boolean {
  return digests.compare(digests, at - DIGEST_BYTES, at, at, at + DIGEST_BYTES) > 0;
}
