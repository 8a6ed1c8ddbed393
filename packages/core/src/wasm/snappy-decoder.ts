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

/** Memory that {@link unsnappy} keeps: enough for a block, and for a frame as we write them. */
const KEPT_BYTES = 5 << 20;
/** More than the slack behind an input and an output. */
const MARGIN = 256;

let code: WasmModule | undefined;
let kept: SnappyDecoder | undefined;

/** @param bytes of memory */
export function createSnappyDecoder(bytes: number): SnappyDecoder {
  code ??= new wasm.Module(readFileSync(new URL('./unsnappy.wasm', import.meta.url)));
  const unsnappy = new wasm.Instance(code).exports as UnsnappyExports;
  if (!unsnappy.reserve(bytes)) throw new LazytreeError('FAILED', `no memory of ${bytes} bytes for snappy`);
  const memory = Buffer.from(unsnappy.memory.buffer, 0, bytes);
  return {
    memory,
    slack: unsnappy.SLACK.value,
    decode: (from, length, to, expected) => unsnappy.decode(from, length, to, expected) !== 0,
  };
}

/** What `block` decodes to, in a buffer of its own; undefined unless that is a block of `expected` bytes. */
export function unsnappy(block: Uint8Array, expected: number): Buffer | undefined {
  const bytes = block.length + expected + MARGIN;
  if (bytes <= KEPT_BYTES) kept ??= createSnappyDecoder(KEPT_BYTES);
  const { memory, slack, decode } = bytes <= KEPT_BYTES && kept ? kept : createSnappyDecoder(bytes);
  const to = block.length + slack;
  memory.set(block);
  if (!decode(0, block.length, to, expected)) return undefined;
  const output = Buffer.allocUnsafeSlow(expected);
  memory.copy(output, 0, to, to + expected);
  return output;
}
