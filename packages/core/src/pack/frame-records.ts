import { digestOf } from '../format/link.js';
import { compress, RECORD_HEADER, writeRecord } from '../store/record.js';
import { FRAME_HEADER, readFrame, readFrameHeader } from './frame.js';

/** Frames that follow one another, and what is wanted of them. */
export interface UnpackFrames {
  frames: Uint8Array;
  /** Digests, 32 characters each. */
  wanted: string;
  /** Where the frames are from, for errors. */
  where: string;
}

/** Blocks as records of a store, each under the digest that it has been found to have. */
export interface UnpackedFrames {
  /** Of those that were wanted. */
  records: Buffer;
  /** Digests of these, in their order. */
  found: string[];
  /** Of all others. */
  extra: Buffer;
}

const DIGEST = 32;

/** Hashes every block of some frames and makes records of them. @throws LazytreeError CORRUPT */
export function unpackFrames({ frames, wanted, where }: UnpackFrames): UnpackedFrames {
  const bytes = Buffer.from(frames.buffer, frames.byteOffset, frames.length);
  const missing = new Set<string>();
  for (let at = 0; at < wanted.length; at += DIGEST) missing.add(wanted.slice(at, at + DIGEST));
  const found: string[] = [];
  const records: Buffer[] = [];
  const extra: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const { stored, raw: room, blocks: count } = readFrameHeader(bytes, at, where);
    const { codec, blocks } = readFrame(bytes, at, where);
    const bounded = room + count * RECORD_HEADER;
    const [asked, others] = [Buffer.allocUnsafeSlow(bounded), Buffer.allocUnsafeSlow(bounded)];
    const ends = [0, 0];
    for (const block of blocks) {
      const digest = digestOf(block);
      const isWanted = missing.delete(digest);
      if (isWanted) found.push(digest);
      const side = isWanted ? 0 : 1;
      const record = { codec, digest, raw: block.length, ...compress(block) };
      ends[side] = writeRecord(isWanted ? asked : others, ends[side], record);
    }
    // Parts of the buffers would keep all of them.
    records.push(Buffer.from(asked.subarray(0, ends[0])));
    extra.push(Buffer.from(others.subarray(0, ends[1])));
    at += FRAME_HEADER + stored;
  }
  return { records: Buffer.concat(records), found, extra: Buffer.concat(extra) };
}
