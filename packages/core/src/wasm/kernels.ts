import { readFileSync } from 'node:fs';
import { type WasmMemory, type WasmModule, wasm } from './wasm-types.js';

/** Exports of assembly/, where their contracts are. */
export interface Kernels {
  readonly memory: WasmMemory;
  freeAddress(): number;
  inputRoom(length: number): number;
  outputRoom(length: number): number;
  reserve(end: number): number;
  encode(input: number, length: number, to: number, effort: number): number;
  gearAddress(): number;
  findCut(first: number, normal: number, limit: number): number;
}

let shared: WasmModule | undefined;

/** This thread's module. Whoever gives it to another thread shares its optimised code, too. */
export function kernelModule(): WasmModule {
  shared ??= new wasm.Module(readFileSync(new URL('./kernels.wasm', import.meta.url)));
  return shared;
}

/** Makes a module of another thread this one's. */
export function shareKernelModule(module: WasmModule): void {
  shared = module;
}

/** The kernels with a memory of their own. */
export function createKernels(): Kernels {
  return new wasm.Instance(kernelModule()).exports as Kernels;
}
