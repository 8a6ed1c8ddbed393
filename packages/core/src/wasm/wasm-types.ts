/**
 * The part of the WebAssembly JavaScript interface that the encoder uses. Neither the ES libraries of
 * TypeScript nor @types/node declare it, and the DOM library would bring in every browser global.
 */
export interface WasmModule {
  readonly [wasmModule]: true;
}

declare const wasmModule: unique symbol;

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

interface WasmApi {
  Module: new (bytes: Uint8Array) => WasmModule;
  Instance: new (module: WasmModule) => { readonly exports: unknown };
}

export const wasm: WasmApi = (globalThis as unknown as { WebAssembly: WasmApi }).WebAssembly;
