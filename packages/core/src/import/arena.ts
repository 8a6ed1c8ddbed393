import { LazytreeError } from '../errors.js';
import { MAX_CHUNK, searchCut } from '../format/chunker.js';
import { GEAR } from '../format/gear.js';
import { createKernels } from '../wasm/kernels.js';
import {
  createSnappyEncoder,
  EFFORTS,
  type SnappyEffort,
  type SnappyEncoder,
} from '../wasm/snappy-encoder.js';

/** Memory that files are read to, and in which they are cut and compressed without being copied. */
export interface Arena {
  readonly bytes: Buffer;
  /** The same cut as that of `chunkEnd` in `bytes`. */
  chunkEnd(start: number, end: number): number;
  /** Encodes a part of `bytes`, at most {@link MAX_CHUNK} long, or with a copy what lies elsewhere. */
  encode: SnappyEncoder;
}

export function createArena(length: number, effort: SnappyEffort): Arena {
  const kernels = createKernels();
  const start = kernels.freeAddress();
  const outputAddress = start + kernels.inputRoom(length);
  if (!kernels.reserve(outputAddress + kernels.outputRoom(MAX_CHUNK)))
    throw new LazytreeError('FAILED', 'no memory to read files to');
  const { buffer } = kernels.memory;
  let elsewhere: SnappyEncoder | undefined;
  const gear = new DataView(buffer, kernels.gearAddress());
  GEAR.forEach((value, i) => {
    gear.setUint32(i * 4, value, true);
  });
  const findCut = (first: number, normal: number, limit: number) =>
    kernels.findCut(start + first, start + normal, start + limit) - start;
  return {
    bytes: Buffer.from(buffer, start, length),
    chunkEnd: (from, end) => searchCut(from, end, findCut),
    encode(input) {
      if (input.buffer !== buffer) {
        elsewhere ??= createSnappyEncoder(effort);
        return elsewhere(input);
      }
      const size = kernels.encode(input.byteOffset, input.length, outputAddress, EFFORTS[effort]);
      return new Uint8Array(buffer, outputAddress, size);
    },
  };
}
