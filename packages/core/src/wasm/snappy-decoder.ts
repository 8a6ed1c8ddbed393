import { readFileSync } from 'node:fs';
import { LazytreeError } from '../errors.js';
import { type WasmMemory, type WasmModule, wasm } from './wasm-types.js';

/** Exports of assembly/unsnappy.ts, where their contracts are. */
interface UnsnappyExports {
  readonly memory: WasmMemory;
  readonly SLACK: { readonly value: number };
  reserve(bytes: number): number;
  decode(from: number, length: number, to: number, expected: number): number;
}

/** A decoder of the snappy block format, with a memory in which input and output lie. */
export interface SnappyDecoder {
  /** For the input and the output of {@link decode}, at places of the caller's choice. */
  readonly memory: Buffer;
  /** Bytes to leave free behind each input and each output. */
  readonly slack: number;
  /**
   * Decodes the `length` bytes at `from` to `to`.
   *
   * @returns whether they are a block of `expected` bytes, no more and no fewer
   */
  decode(from: number, length: number, to: number, expected: number): boolean;
}

/** @param bytes of memory */
export function createSnappyDecoder(bytes: number): SnappyDecoder {
  const code = readFileSync(new URL('./unsnappy.wasm', import.meta.url));
  const module: WasmModule = new wasm.Module(code);
  const unsnappy = new wasm.Instance(module).exports as UnsnappyExports;
  if (!unsnappy.reserve(bytes)) throw new LazytreeError('FAILED', `no memory of ${bytes} bytes for snappy`);
  const memory = Buffer.from(unsnappy.memory.buffer, 0, bytes);
  return {
    memory,
    slack: unsnappy.SLACK.value,
    decode: (from, length, to, expected) => unsnappy.decode(from, length, to, expected) !== 0,
  };
}
