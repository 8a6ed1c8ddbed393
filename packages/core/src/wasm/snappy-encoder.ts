import { LazytreeError } from '../errors.js';
import { createKernels } from './kernels.js';

/**
 * An encoder for the snappy block format that matches over the whole input rather than over fragments of 64 KiB
 * (https://github.com/google/snappy/blob/main/format_description.txt). Every snappy decoder reads its output. The
 * encoder proper is assembly/snappy.ts. More effort is slower and gives smaller output.
 */
export type SnappyEffort = 'quick' | 'fast' | 'balanced' | 'high';

/** Longest input of one block, in bytes. */
const MAX_SNAPPY_INPUT = 1 << 24;

/**
 * Encodes one block. The result lies in memory that the next call writes over: copy it, or be done with it.
 *
 * @throws LazytreeError UNSUPPORTED for an input longer than {@link MAX_SNAPPY_INPUT}
 */
export type SnappyEncoder = (input: Uint8Array) => Uint8Array;

/** What assembly/snappy.ts calls them. */
export const EFFORTS = { fast: 0, balanced: 1, high: 2, quick: 3 } as const;

/** An encoder with a memory of its own: about 2.2 times the longest input seen, plus a MiB. */
export function createSnappyEncoder(effort: SnappyEffort): SnappyEncoder {
  const kernels = createKernels();
  const inputAddress = kernels.freeAddress();
  let memory = new Uint8Array(kernels.memory.buffer);

  return (input) => {
    const { length } = input;
    if (length > MAX_SNAPPY_INPUT)
      throw new LazytreeError('UNSUPPORTED', `a snappy block of ${length} bytes`);
    const outputAddress = inputAddress + kernels.inputRoom(length);
    if (!kernels.reserve(outputAddress + kernels.outputRoom(length)))
      throw new LazytreeError('FAILED', `no memory for a snappy block of ${length} bytes`);
    // Growing the memory detaches its previous buffer.
    if (memory.buffer !== kernels.memory.buffer) memory = new Uint8Array(kernels.memory.buffer);
    memory.set(input, inputAddress);
    const size = kernels.encode(inputAddress, length, outputAddress, EFFORTS[effort]);
    return memory.subarray(outputAddress, outputAddress + size);
  };
}
