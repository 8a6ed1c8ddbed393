import { workerData } from 'node:worker_threads';
import type { Codec } from '../format/link.js';
import { compress, RECORD_HEADER, writeRecord } from '../store/record.js';
import { serveJobs } from '../threads/serve.js';
import { shareKernelModule } from '../wasm/kernels.js';
import type { WasmModule } from '../wasm/wasm-types.js';

/** Blocks that are to become records. */
export interface RecordJob {
  /** Their content, one after another. */
  bytes: ArrayBuffer;
  lengths: readonly number[];
  codecs: readonly Codec[];
  /** 32 characters each. */
  digests: string;
}

export interface RecordThreadData {
  kernels: WasmModule;
}

const { kernels }: RecordThreadData = workerData;
shareKernelModule(kernels);

/** Full batches of content, the usual ones, take this. */
let room = Buffer.allocUnsafeSlow(1152 << 10);

serveJobs<RecordJob, Uint8Array>(async ({ bytes, lengths, codecs, digests }) => {
  const most = bytes.byteLength + lengths.length * RECORD_HEADER;
  if (room.length < most) room = Buffer.allocUnsafeSlow(most);
  let at = 0;
  let from = 0;
  lengths.forEach((raw, i) => {
    const digest = digests.slice(i * 32, i * 32 + 32);
    const payload = compress(new Uint8Array(bytes, from, raw));
    at = writeRecord(room, at, { codec: codecs[i], digest, raw, ...payload });
    from += raw;
  });
  // A copy: what is posted would be all that the view lies in.
  return new Uint8Array(room.subarray(0, at));
});
