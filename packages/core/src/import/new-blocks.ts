import type { Codec } from '../format/link.js';
import { compress, RECORD_HEADER, writeRecord } from '../store/record.js';
import type { SnappyEncoder } from '../wasm/snappy-encoder.js';

/** Where ingested blocks go. */
export interface IngestSink {
  /** Which of the digests, 32 characters each in one string, are wanted: one byte each, 1 for yes. */
  query(digests: string): Promise<Uint8Array>;
  /** A buffer of at least so many bytes to write records to, where the sink keeps some. */
  room?(bytes: number): Buffer;
  /** Takes whole records. The buffer is the sink's from then on. */
  emit(records: Buffer): Promise<void>;
}

export interface NewBlock {
  codec: Codec;
  digest: string;
  bytes: Uint8Array;
}

/** Compresses and emits those of `blocks` that the sink wants. */
export async function storeBlocks(
  sink: IngestSink,
  blocks: readonly NewBlock[],
  encode?: SnappyEncoder,
): Promise<void> {
  const wanted = await sink.query(blocks.map(({ digest }) => digest).join(''));
  let most = 0;
  for (let i = 0; i < blocks.length; i++) {
    if (wanted[i] !== 0) most += RECORD_HEADER + blocks[i].bytes.length;
  }
  if (most === 0) return;
  // Memory that is not written to is not there: the room for what compression saves costs nothing.
  const records = sink.room?.(most) ?? Buffer.allocUnsafeSlow(most);
  let at = 0;
  for (let i = 0; i < blocks.length; i++) {
    if (wanted[i] === 0) continue;
    const { codec, digest, bytes } = blocks[i];
    at = writeRecord(records, at, { codec, digest, raw: bytes.length, ...compress(bytes, encode) });
  }
  await sink.emit(records.subarray(0, at));
}
