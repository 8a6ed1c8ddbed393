import { crc32 } from 'node:zlib';
import { LazytreeError } from '../errors.js';
import {
  type Codec,
  DAG_CBOR,
  DIGEST_BYTES,
  type Link,
  linkCodec,
  linkDigest,
  makeLink,
  RAW,
} from '../format/link.js';

/**
 * Says of links in which frame of which pack their block is (docs/remotes.md). Never changed once it is written. Made to
 * be searched by reading small parts of it: digests are spread evenly, so the first bits of one say in which bucket it is.
 * Little-endian:
 *
 *     0  magic "LZTABLE1"     20  bits of the fan-out
 *     8  blocks               24  zero
 *    12  frames               28  crc32 of the 28 bytes before
 *    16  zero                 32  fan-out: for each bucket the number of the first entry behind it, crc32 of its entries
 *
 * then the frames (pack, offset in it, bytes with the header), then the entries in ascending order of digest (digest,
 * frame, number of the block in the frame), then the filter: a Bloom filter of all digests. The highest bit of an entry's
 * frame says that the block is a node. Where a node is, all below it is; where a file of the same bytes is, need not be:
 * so they are two blocks, and have two entries, the file's first.
 */
export const TABLE_HEADER = 32;
export const PACK_ID_BYTES = 32;
const MAGIC = Buffer.from('LZTABLE1', 'latin1');
const FANOUT_ENTRY = 8;
const FRAME_ENTRY = PACK_ID_BYTES + 12;
const ENTRY = DIGEST_BYTES + 6;
const NODE_BIT = 2 ** 31;
/** Entries of a bucket, about. */
const BUCKET = 256;
const MAX_FANOUT_BITS = 16;
/** Blocks of a table, so that one can be made in memory. */
export const MAX_TABLE_BLOCKS = 2 << 20;

/** Where a frame is: the pack's id (its SHA-256, 32 Latin-1 characters), and its bytes with the header. */
export interface FramePlace {
  pack: string;
  offset: number;
  length: number;
}

export interface BlockPlace {
  frame: FramePlace;
  /** The number of the block in its frame. */
  slot: number;
}

/** What a table is made of. */
export interface TableContent {
  frames: readonly FramePlace[];
  /** Of all blocks, none twice, in any order; the next two belong to them. */
  links: readonly Link[];
  frameOf: ArrayLike<number>;
  slotOf: ArrayLike<number>;
}

/** What a table's header says. */
export interface TableShape {
  blocks: number;
  frames: number;
  /** Bytes of all of it. */
  size: number;
  fanoutBits: number;
  framesAt: number;
  entriesAt: number;
  filterAt: number;
}

export function encodeTable({ frames, links, frameOf, slotOf }: TableContent): Buffer {
  const count = links.length;
  if (count > MAX_TABLE_BLOCKS) throw new Error(`${count} blocks for one table`);
  const shape = shapeOf(count, frames.length, fanoutBitsFor(count));
  const { fanoutBits, framesAt, entriesAt, filterAt, size } = shape;
  const table = Buffer.alloc(size);
  MAGIC.copy(table);
  table.writeUInt32LE(count, 8);
  table.writeUInt32LE(frames.length, 12);
  table.writeUInt32LE(fanoutBits, 20);
  table.writeUInt32LE(crc32(table.subarray(0, 28)), 28);
  frames.forEach(({ pack, offset, length }, i) => {
    const at = framesAt + i * FRAME_ENTRY;
    table.write(pack, at, PACK_ID_BYTES, 'latin1');
    table.writeUIntLE(offset, at + 32, 6);
    table.writeUIntLE(length, at + 38, 6);
  });
  const digests = links.map(linkDigest);
  const order = ascending(links, digests);
  let bucket = 0;
  let start = entriesAt;
  let at = entriesAt;
  const closeBuckets = (until: number) => {
    for (; bucket < until; bucket++) {
      const entry = TABLE_HEADER + bucket * FANOUT_ENTRY;
      table.writeUInt32LE((at - entriesAt) / ENTRY, entry);
      table.writeUInt32LE(crc32(table.subarray(start, at)), entry + 4);
      start = at;
    }
  };
  const filter = table.subarray(filterAt);
  for (const i of order) {
    const digest = digests[i];
    closeBuckets(bucketOf(digest, fanoutBits));
    table.write(digest, at, DIGEST_BYTES, 'latin1');
    table.writeUInt32LE(frameOf[i] + (linkCodec(links[i]) === DAG_CBOR ? NODE_BIT : 0), at + 32);
    table.writeUInt16LE(slotOf[i], at + 36);
    at += ENTRY;
    addToFilter(filter, digest);
  }
  closeBuckets(1 << fanoutBits);
  return table;
}

/** The numbers of links by digest, and where a file and a node have one, the file's first. */
function ascending(links: readonly Link[], digests: readonly string[]): Uint32Array {
  // 32 bits of a digest and the number of the link are one number: such are sorted with no call for each comparison.
  const keys = Float64Array.from(digests, (digest, i) => firstBits(digest) * MAX_TABLE_BLOCKS + i).sort();
  const order = Uint32Array.from(keys, (key) => key % MAX_TABLE_BLOCKS);
  const compare = (a: number, b: number) => {
    if (digests[a] === digests[b]) return links[a] < links[b] ? -1 : 1;
    return digests[a] < digests[b] ? -1 : 1;
  };
  const bits = (place: number) => Math.floor(keys[place] / MAX_TABLE_BLOCKS);
  // Hardly any two begin alike, unless somebody has made them.
  for (let from = 0, to = 0; from < order.length; from = to) {
    for (to = from + 1; to < order.length && bits(to) === bits(from); ) to++;
    if (to - from > 1) order.subarray(from, to).sort(compare);
  }
  return order;
}

function firstBits(digest: string): number {
  let bits = 0;
  for (let i = 0; i < 4; i++) bits = bits * 256 + digest.charCodeAt(i);
  return bits;
}

function fanoutBitsFor(blocks: number): number {
  return Math.min(MAX_FANOUT_BITS, Math.max(0, Math.ceil(Math.log2(blocks / BUCKET))));
}

function shapeOf(blocks: number, frames: number, fanoutBits: number): TableShape {
  const framesAt = TABLE_HEADER + (1 << fanoutBits) * FANOUT_ENTRY;
  const entriesAt = framesAt + frames * FRAME_ENTRY;
  const filterAt = entriesAt + blocks * ENTRY;
  return {
    blocks,
    frames,
    fanoutBits,
    framesAt,
    entriesAt,
    filterAt,
    size: filterAt + filterBytes(blocks),
  };
}

/** @param size of the whole table @throws LazytreeError CORRUPT */
export function decodeTableHeader(header: Buffer, size: number, where: string): TableShape {
  if (header.length < TABLE_HEADER || !header.subarray(0, 8).equals(MAGIC))
    throw damaged(where, 'it is no table');
  if (crc32(header.subarray(0, 28)) !== header.readUInt32LE(28))
    throw damaged(where, 'its header is not valid');
  const [blocks, frames, fanoutBits] = [8, 12, 20].map((at) => header.readUInt32LE(at));
  const zero = header.readUInt32LE(16) === 0 && header.readUInt32LE(24) === 0;
  if (!zero || blocks > MAX_TABLE_BLOCKS || frames > blocks || fanoutBits > MAX_FANOUT_BITS)
    throw damaged(where, 'its header is not valid');
  const shape = shapeOf(blocks, frames, fanoutBits);
  if (shape.size !== size) throw damaged(where, 'it has another length than it says');
  return shape;
}

/** The bucket that a digest belongs to. */
export function bucketOf(digest: string, fanoutBits: number): number {
  return ((digest.charCodeAt(0) << 8) | digest.charCodeAt(1)) >>> (16 - fanoutBits);
}

/** Where in the table the fan-out's entries for a bucket are: that of the one before, and its own. */
export function fanoutRange(bucket: number): { offset: number; length: number } {
  const first = Math.max(0, bucket - 1);
  return { offset: TABLE_HEADER + first * FANOUT_ENTRY, length: (bucket - first + 1) * FANOUT_ENTRY };
}

export interface BucketPlace {
  offset: number;
  length: number;
  crc: number;
}

/** @param bytes what is at {@link fanoutRange} @throws LazytreeError CORRUPT */
export function readFanout(bytes: Buffer, bucket: number, shape: TableShape, where: string): BucketPlace {
  const at = bytes.length - FANOUT_ENTRY;
  const start = bucket === 0 ? 0 : bytes.readUInt32LE(0);
  const end = bytes.readUInt32LE(at);
  if (start > end || end > shape.blocks) throw damaged(where, 'its fan-out is not valid');
  return {
    offset: shape.entriesAt + start * ENTRY,
    length: (end - start) * ENTRY,
    crc: bytes.readUInt32LE(at + 4),
  };
}

/** @throws LazytreeError CORRUPT when a bucket is not what was written */
export function checkBucket(bucket: Buffer, { length, crc }: BucketPlace, where: string): void {
  if (bucket.length !== length || crc32(bucket) !== crc)
    throw damaged(where, 'a part of it is not what was written');
}

/** An entry of a table: the number of the frame, and that of the block in it. */
export interface TableEntry {
  frame: number;
  slot: number;
}

/** The entry of a block among those of its bucket. */
export function findInBucket(bucket: Buffer, link: Link): TableEntry | undefined {
  const wanted = Buffer.from(linkDigest(link), 'latin1');
  const isHere = (at: number) =>
    at >= 0 && at < bucket.length && bucket.compare(wanted, 0, DIGEST_BYTES, at, at + DIGEST_BYTES) === 0;
  for (let low = 0, high = bucket.length / ENTRY - 1; low <= high; ) {
    const middle = (low + high) >>> 1;
    const at = middle * ENTRY;
    const order = bucket.compare(wanted, 0, DIGEST_BYTES, at, at + DIGEST_BYTES);
    if (order === 0) {
      // A file and a node of the same bytes are neighbours.
      const place = [at, at - ENTRY, at + ENTRY].find(
        (near) => isHere(near) && codecAt(bucket, near) === linkCodec(link),
      );
      return place === undefined
        ? undefined
        : { frame: frameAt(bucket, place), slot: bucket.readUInt16LE(place + 36) };
    }
    if (order < 0) low = middle + 1;
    else high = middle - 1;
  }
  return undefined;
}

function codecAt(entries: Buffer, at: number): Codec {
  return entries.readUInt32LE(at + 32) >= NODE_BIT ? DAG_CBOR : RAW;
}

function frameAt(entries: Buffer, at: number): number {
  return entries.readUInt32LE(at + 32) % NODE_BIT;
}

/** Where in the table a frame's place is. @throws LazytreeError CORRUPT */
export function frameRange(
  frame: number,
  { frames, framesAt }: TableShape,
  where: string,
): { offset: number; length: number } {
  if (frame >= frames) throw damaged(where, 'an entry of a frame that there is not');
  return { offset: framesAt + frame * FRAME_ENTRY, length: FRAME_ENTRY };
}

/** @param bytes what is at {@link frameRange} */
export function readFramePlace(bytes: Buffer): FramePlace {
  return {
    pack: bytes.toString('latin1', 0, PACK_ID_BYTES),
    offset: bytes.readUIntLE(32, 6),
    length: bytes.readUIntLE(38, 6),
  };
}

/** All that a whole table says, frame by frame. @throws LazytreeError CORRUPT */
export function decodeTable(table: Buffer, where: string): TableContent {
  const shape = decodeTableHeader(table, table.length, where);
  const { blocks, frames: frameCount, entriesAt, fanoutBits } = shape;
  const frames = Array.from({ length: frameCount }, (_, i) => {
    const { offset, length } = frameRange(i, shape, where);
    return readFramePlace(table.subarray(offset, offset + length));
  });
  const links: Link[] = [];
  const frameOf = new Uint32Array(blocks);
  const slotOf = new Uint16Array(blocks);
  for (let bucket = 0; bucket < 1 << fanoutBits; bucket++) {
    const { offset, length } = fanoutRange(bucket);
    const place = readFanout(table.subarray(offset, offset + length), bucket, shape, where);
    checkBucket(table.subarray(place.offset, place.offset + place.length), place, where);
  }
  for (let i = 0, at = entriesAt; i < blocks; i++, at += ENTRY) {
    links.push(makeLink(codecAt(table, at), table.toString('latin1', at, at + DIGEST_BYTES)));
    frameOf[i] = frameAt(table, at);
    slotOf[i] = table.readUInt16LE(at + 36);
    if (frameOf[i] >= frameCount) throw damaged(where, 'an entry of a frame that there is not');
  }
  return { frames, links, frameOf, slotOf };
}

/** Bits of the filter for each block, and how many of them are set for it: one in 120 others seems to be there. */
const FILTER_BITS = 10;
const FILTER_HASHES = 7;

function filterBytes(blocks: number): number {
  return Math.ceil((blocks * FILTER_BITS) / 64) * 8;
}

function addToFilter(filter: Buffer, digest: string): void {
  const bits = filter.length * 8;
  for (let i = 0; i < FILTER_HASHES; i++) {
    const bit = filterHash(digest, i) % bits;
    filter[bit >>> 3] |= 1 << (bit & 7);
  }
}

/** False when a digest is not in the table; true when it is, and sometimes when it is not. */
export function mayHave(filter: Uint8Array, digest: string): boolean {
  const bits = filter.length * 8;
  if (bits === 0) return false;
  for (let i = 0; i < FILTER_HASHES; i++) {
    const bit = filterHash(digest, i) % bits;
    if ((filter[bit >>> 3] & (1 << (bit & 7))) === 0) return false;
  }
  return true;
}

/** Four bytes of the digest: it is a hash already. */
function filterHash(digest: string, i: number): number {
  const at = 4 + i * 4;
  return (
    ((digest.charCodeAt(at) << 24) |
      (digest.charCodeAt(at + 1) << 16) |
      (digest.charCodeAt(at + 2) << 8) |
      digest.charCodeAt(at + 3)) >>>
    0
  );
}

function damaged(where: string, what: string): LazytreeError {
  return new LazytreeError('CORRUPT', `${where} is damaged: ${what}`);
}
