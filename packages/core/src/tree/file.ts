import { CorruptBlockError, InvalidNodeError } from '../errors.js';
import { decodeFileNode, type FilePart } from '../format/file-node.js';
import { formatLink, type Link, linkCodec, RAW } from '../format/link.js';
import { type BlockSource, getMany, type StoreOptions } from '../store/block-store.js';

/** The chunks of a file in order. A file of one chunk is that chunk. */
export async function* fileChunks(
  store: BlockSource,
  file: FilePart,
  options?: StoreOptions,
): AsyncGenerator<FilePart> {
  if (linkCodec(file.link) === RAW) yield file;
  else yield* chunksBelow(store, file, undefined, options);
}

async function* chunksBelow(
  store: BlockSource,
  file: FilePart,
  expected: number | undefined,
  options?: StoreOptions,
): AsyncGenerator<FilePart> {
  const node = decodeFileNode(await store.get(file.link, options));
  if (node.size !== file.size || (expected !== undefined && node.level !== expected)) {
    throw new InvalidNodeError(`${formatLink(file.link)}: not the file node that the one above says`);
  }
  if (node.level === 0) yield* node.parts;
  else for (const part of node.parts) yield* chunksBelow(store, part, node.level - 1, options);
}

/** The nodes of a file that are not content, the top one first. */
export async function* fileNodes(
  store: BlockSource,
  link: Link,
  options?: StoreOptions,
): AsyncGenerator<Link> {
  if (linkCodec(link) === RAW) return;
  yield link;
  const node = decodeFileNode(await store.get(link, options));
  if (node.level === 0) return;
  for (const part of node.parts) yield* fileNodes(store, part.link, options);
}

/** A file's content, a chunk at a time. */
export async function* readFile(
  store: BlockSource,
  file: FilePart,
  options?: StoreOptions,
): AsyncGenerator<Uint8Array> {
  let batch: FilePart[] = [];
  for await (const chunk of fileChunks(store, file, options)) {
    batch.push(chunk);
    if (batch.length < BATCH) continue;
    yield* contentOf(store, batch, options);
    batch = [];
  }
  yield* contentOf(store, batch, options);
}

const BATCH = 64;

async function* contentOf(
  store: BlockSource,
  chunks: readonly FilePart[],
  options?: StoreOptions,
): AsyncGenerator<Uint8Array> {
  let i = 0;
  for await (const { link, bytes } of getMany(
    store,
    chunks.map((chunk) => chunk.link),
    options,
  )) {
    if (bytes.length !== chunks[i++].size) {
      throw new CorruptBlockError(
        formatLink(link),
        store.describe(),
        'its length is not the one its file says',
      );
    }
    yield bytes;
  }
}
