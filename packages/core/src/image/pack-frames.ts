import { crc32 } from 'node:zlib';
import { CorruptBlockError } from '../errors.js';
import { formatLink, makeLink, RAW } from '../format/link.js';
import { createRecordReader } from '../store/record-reader.js';
import type { Frame } from './format.js';
import { compressFrame, type ImageCompression } from './frame-compression.js';

/** A frame to compress: its bytes, or where the records of its blocks are. */
export type PackJob = {
  kind: ImageCompression;
  /** Of zstd; that of images by default. */
  level?: number;
  /** Bytes of all of it. */
  raw: number;
  /** What goes before the blocks. */
  head?: Uint8Array;
} & (
  | { bytes: Uint8Array }
  | {
      /** Digest of each block, 32 characters each. */
      digests: string;
      /** Segment, offset, stored and raw bytes of each block. */
      places: Float64Array;
    }
);

export interface PackedFrame extends Frame {
  payload: Uint8Array;
}

const PLACE = 4;

type CollectJob = Extract<PackJob, { digests: string }>;

/** Compresses frames, one at a time. */
export function createFramePacker(segmentPath: (segment: number) => string) {
  const records = createRecordReader(segmentPath);
  let buffer = Buffer.alloc(0);

  function collect({ digests, places, raw, head }: CollectJob): Uint8Array {
    if (buffer.length < raw) buffer = Buffer.allocUnsafeSlow(raw);
    if (head) buffer.set(head);
    let at = head?.length ?? 0;
    for (let i = 0; i * PLACE < places.length; i++) {
      const [segment, offset, stored, length] = places.subarray(i * PLACE, (i + 1) * PLACE);
      const digest = digests.slice(i * 32, i * 32 + 32);
      const bytes = records.read(digest, segment, offset, stored);
      if (bytes.length !== length) {
        const cid = formatLink(makeLink(RAW, digest));
        throw new CorruptBlockError(
          cid,
          segmentPath(segment),
          'its length is not the one that the index says',
        );
      }
      buffer.set(bytes, at);
      at += length;
    }
    return buffer.subarray(0, raw);
  }

  return function packFrame(job: PackJob): PackedFrame {
    const { kind, level, raw, head } = job;
    const whole = 'bytes' in job && head ? Buffer.concat([head, job.bytes]) : undefined;
    const bytes = 'bytes' in job ? (whole ?? job.bytes) : collect(job);
    const { compression, payload } = compressFrame(kind, bytes, level);
    return { compression, payload, crc: crc32(payload), stored: payload.length, raw };
  };
}
