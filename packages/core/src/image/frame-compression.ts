import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { Compression, type CompressionCode, decompress } from '../store/record.js';
import { createSnappyEncoder, type SnappyEffort, type SnappyEncoder } from '../wasm/snappy-encoder.js';

/** How the frames of an image are compressed. */
export type ImageCompression = 'snappy' | 'zstd';

/**
 * Bytes of a frame before compression: larger ones compress better, smaller ones cost less to read one block
 * from. A writer's choice, not part of the format.
 */
export const FRAME_BYTES: Readonly<Record<ImageCompression, number>> = { snappy: 2 << 20, zstd: 4 << 20 };

/**
 * The same for frames of nodes. A listing needs a few of them, and snappy blocks below 64 KiB are decoded without loading
 * an addon; larger ones would hardly be smaller, as nodes are mostly digests.
 */
export const NODE_FRAME_BYTES: Readonly<Record<ImageCompression, number>> = {
  snappy: 60 << 10,
  zstd: FRAME_BYTES.zstd,
};

/** The fastest that makes images smaller than `tar | zstd`. */
const ZSTD_LEVEL = 3;
/** Spans the frame. */
const ZSTD_WINDOW_LOG = 22;
const SNAPPY_EFFORT: SnappyEffort = 'fast';
/** 16 MiB, the most that a frame can hold. */
const ZSTD_READ_WINDOW_LOG = 24;
const WORTH = 1 / 32;

export interface CompressedFrame {
  compression: CompressionCode;
  /** In a buffer of its own. */
  payload: Uint8Array;
}

let snappy: SnappyEncoder | undefined;

/**
 * The shorter form of `bytes`: compressed, or as they are where that does not help.
 *
 * @param level of zstd
 */
export function compressFrame(
  kind: ImageCompression,
  bytes: Uint8Array,
  level = ZSTD_LEVEL,
): CompressedFrame {
  const payload = kind === 'zstd' ? compressZstd(bytes, level) : compressSnappy(bytes);
  if (payload.length > bytes.length * (1 - WORTH)) {
    return { compression: Compression.none, payload: Uint8Array.from(bytes) };
  }
  return { compression: Compression[kind], payload: Uint8Array.from(payload) };
}

function compressSnappy(bytes: Uint8Array): Uint8Array {
  snappy ??= createSnappyEncoder(SNAPPY_EFFORT);
  return snappy(bytes);
}

function compressZstd(bytes: Uint8Array, level: number): Uint8Array {
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_windowLog]: ZSTD_WINDOW_LOG,
  };
  // One output buffer: the default of 16 KiB pieces costs a copy and hundreds of calls.
  return zstdCompressSync(bytes, { params, chunkSize: Math.max(bytes.length, 1024) });
}

/**
 * Undoes {@link compressFrame}.
 *
 * @param raw what the index says, within the limit of a frame; nothing larger is allocated
 * @throws Error when the payload does not decompress to exactly that
 */
export function decompressFrame(compression: CompressionCode, payload: Uint8Array, raw: number): Uint8Array {
  if (compression !== Compression.zstd) return decompress(compression, payload, raw);
  const bytes = zstdDecompressSync(payload, {
    params: { [constants.ZSTD_d_windowLogMax]: ZSTD_READ_WINDOW_LOG },
    chunkSize: Math.max(raw, 1024),
    maxOutputLength: Math.max(raw, 1),
  });
  if (bytes.length !== raw) throw new Error(`${bytes.length} bytes where the index says ${raw}`);
  return bytes;
}
