import { readFileSync } from 'node:fs';
import { LazytreeError } from '../errors.js';
import { type WasmMemory, type WasmModule, wasm } from './wasm-types.js';

/**
 * An encoder for the snappy block format that matches over the whole input rather than over fragments of 64 KiB
 * (https://github.com/google/snappy/blob/main/format_description.txt). Every snappy decoder reads its output. The
 * encoder proper is assembly/snappy.ts.
 */
export type SnappyEffort = 'fast' | 'balanced' | 'high';

/** Longest input of one block, in bytes. */
const MAX_SNAPPY_INPUT = 1 << 24;

/**
 * Encodes one block. The result lies in memory that the next call writes over: copy it, or be done with it.
 *
 * @throws LazytreeError UNSUPPORTED for an input longer than {@link MAX_SNAPPY_INPUT}
 */
export type SnappyEncoder = (input: Uint8Array) => Uint8Array;

export interface SnappyEncoderOptions {
  /** Less effort is faster, more gives smaller output. Default `fast`. */
  effort?: SnappyEffort;
  /** From {@link compileSnappy}, possibly in another thread, with which its optimised code is then shared. */
  module?: WasmModule;
}

const EFFORTS = { fast: 0, balanced: 1, high: 2 } as const;

/** Exports of assembly/snappy.ts, where their contracts are. */
interface SnappyExports {
  readonly memory: WasmMemory;
  inputAddress(): number;
  outputAddress(length: number): number;
  reserve(length: number): number;
  encode(length: number, effort: number): number;
}

export function compileSnappy(): WasmModule {
  return new wasm.Module(readFileSync(new URL('./snappy.wasm', import.meta.url)));
}

/** An encoder with a memory of its own: about 2.2 times the longest input seen, plus a MiB. */
export function createSnappyEncoder({
  effort = 'fast',
  module = compileSnappy(),
}: SnappyEncoderOptions = {}): SnappyEncoder {
  const snappy = new wasm.Instance(module).exports as SnappyExports;
  const inputAddress = snappy.inputAddress();
  let memory = new Uint8Array(snappy.memory.buffer);

  return (input) => {
    const { length } = input;
    if (length > MAX_SNAPPY_INPUT)
      throw new LazytreeError('UNSUPPORTED', `a snappy block of ${length} bytes`);
    if (!snappy.reserve(length))
      throw new LazytreeError('FAILED', `no memory for a snappy block of ${length} bytes`);
    // Growing the memory detaches its previous buffer.
    if (memory.buffer !== snappy.memory.buffer) memory = new Uint8Array(snappy.memory.buffer);
    memory.set(input, inputAddress);
    const size = snappy.encode(length, EFFORTS[effort]);
    const start = snappy.outputAddress(length);
    return memory.subarray(start, start + size);
  };
}
