import type { LazytreeError } from '../errors.js';
import { type Codec, DIGEST_BYTES, digestOf, formatLink, makeLink } from '../format/link.js';
import { type IngestSink, type NewBlock, storeBlocks } from '../import/new-blocks.js';
import { damaged, type PlacedFrame } from './format.js';
import { readFrame } from './image-file.js';

/** A frame and the blocks in it, column by column. */
export interface UnpackJob {
  frame: PlacedFrame;
  digests: string;
  codecs: Uint8Array;
  offsets: Uint32Array;
  lengths: Uint32Array;
}

/** Verifies every block of a frame and stores those that the sink wants. */
export function createFrameUnpacker(fd: number, file: string, sink: IngestSink) {
  return async function unpackFrame(job: UnpackJob): Promise<void> {
    const bytes = readFrame(fd, job.frame, file);
    await storeBlocks(sink, blocksOf(job, bytes, file));
  };
}

function blocksOf({ digests, codecs, offsets, lengths }: UnpackJob, frame: Buffer, file: string): NewBlock[] {
  const blocks: NewBlock[] = [];
  for (let i = 0; i < codecs.length; i++) {
    const digest = digests.slice(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
    const codec = codecs[i] as Codec;
    const bytes = frame.subarray(offsets[i], offsets[i] + lengths[i]);
    if (digestOf(bytes) !== digest) throw wrongHash(file, codec, digest);
    blocks.push({ codec, digest, bytes });
  }
  return blocks;
}

function wrongHash(file: string, codec: Codec, digest: string): LazytreeError {
  return damaged(file, `the content of block ${formatLink(makeLink(codec, digest))} has another hash`);
}
