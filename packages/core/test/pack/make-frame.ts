import {
  type Codec,
  encodeFrameHeader,
  encodeLengths,
  FRAME_HEADER,
  type ImageCompression,
  readFrame,
} from '@lazytree/core';
import { compressFrame } from '../../dist/image/frame-compression.js';

/** A frame of these blocks, as the writer makes it. */
export function makeFrame(
  codec: Codec,
  blocks: readonly Uint8Array[],
  kind: ImageCompression = 'zstd',
): Buffer {
  const raw = Buffer.concat([encodeLengths(blocks.map(({ length }) => length)), ...blocks]);
  const { compression, payload } = compressFrame(kind, raw);
  const header = encodeFrameHeader({ compression, codec, raw: raw.length, blocks: blocks.length, payload });
  return Buffer.concat([header, payload]);
}

/** All frames that follow one another. */
export function readFrames(bytes: Buffer, where = 'here'): ReturnType<typeof readFrame>[] {
  const frames: ReturnType<typeof readFrame>[] = [];
  for (let at = 0; at < bytes.length; at += FRAME_HEADER + bytes.readUInt32LE(at + 12)) {
    frames.push(readFrame(bytes, at, where));
  }
  return frames;
}
