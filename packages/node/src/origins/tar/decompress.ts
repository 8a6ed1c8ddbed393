import { Readable } from 'node:stream';
import { ReadableStream } from 'node:stream/web';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { LazytreeError } from '@lazytree/core';
import { XzReadableStream } from 'xz-decompress';

/** By the first bytes: names of archives lie. */
const MAGIC = {
  gzip: Buffer.of(0x1f, 0x8b),
  zstd: Buffer.of(0x28, 0xb5, 0x2f, 0xfd),
  xz: Buffer.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00),
  bzip2: Buffer.from('BZh'),
  zip: Buffer.from('PK'),
} as const;
const MAGIC_BYTES = 6;
/** What is unpacked at a time: each piece costs a turn of the event loop. */
const PIECE = 256 << 10;

/**
 * An archive as it was before it was compressed; one that was not stays as it is. What is packed is not read further than
 * to the archive's end, nor closed.
 *
 * @throws LazytreeError UNSUPPORTED for another compression; CORRUPT, from the stream, for what cannot be unpacked
 */
export async function decompress(packed: AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
  const source = packed[Symbol.asyncIterator]();
  const head: Uint8Array[] = [];
  for (let bytes = 0; bytes < MAGIC_BYTES; ) {
    const { value, done } = await source.next();
    if (done) break;
    head.push(value);
    bytes += value.length;
  }
  const begin = Buffer.concat(head);
  if (begin.length === 0) throw new LazytreeError('CORRUPT', 'the archive is damaged: it is empty');
  const kind = (Object.keys(MAGIC) as (keyof typeof MAGIC)[]).find((name) =>
    begin.subarray(0, MAGIC[name].length).equals(MAGIC[name]),
  );
  const all = rejoined(begin, source);
  switch (kind) {
    case 'gzip':
      return checked(Readable.from(all, { objectMode: false }), createGunzip({ chunkSize: PIECE }));
    case 'zstd':
      return checked(Readable.from(all, { objectMode: false }), createZstdDecompress({ chunkSize: PIECE }));
    case 'xz':
      return unxz(all);
    case undefined:
      return all;
    default:
      throw new LazytreeError('UNSUPPORTED', `a ${kind} archive cannot be unpacked`, {
        hint: 'tar, tar.gz, tar.zst and tar.xz can',
      });
  }
}

async function* rejoined(
  begin: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (begin.length > 0) yield begin;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

async function* checked(
  source: Readable,
  unpack: NodeJS.ReadWriteStream & Readable,
): AsyncGenerator<Uint8Array> {
  // What breaks the source is its own error, and not one of the archive.
  let broken: unknown;
  source.on('error', (error) => {
    broken = error;
    unpack.destroy(error);
  });
  source.pipe(unpack);
  try {
    yield* unpack as AsyncIterable<Uint8Array>;
  } catch (cause) {
    throw broken ?? damaged(cause);
  } finally {
    source.destroy();
    unpack.destroy();
  }
}

async function* unxz(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let broken: unknown;
  async function* watched(): AsyncGenerator<Uint8Array> {
    try {
      yield* packed;
    } catch (error) {
      broken = error;
      throw error;
    }
  }
  const source = ReadableStream.from(watched()) as unknown as globalThis.ReadableStream<Uint8Array>;
  const unpacked = new XzReadableStream(source).getReader();
  try {
    for (let next = await unpacked.read(); !next.done; next = await unpacked.read()) yield next.value;
  } catch (cause) {
    throw broken ?? damaged(cause);
  } finally {
    await unpacked.cancel().catch(() => undefined);
  }
}

function damaged(cause: unknown): LazytreeError {
  return new LazytreeError('CORRUPT', `the archive is damaged: ${(cause as Error).message}`, { cause });
}
