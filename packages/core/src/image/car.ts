import { type FileHandle, open } from 'node:fs/promises';
import { CarBlockIterator, CarWriter } from '@ipld/car';
import type { CID } from 'multiformats/cid';
import { fromSystemError, LazytreeError } from '../errors.js';
import { MAX_BLOCK_BYTES } from '../format/limits.js';
import { cidToLink, digestOf, formatLink, type Link, linkDigest, linkToCid } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import { createBlockSink } from '../import/block-sink.js';
import { type Block, type BlockSource, type BlockStore, getMany } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { verifying } from '../store/verifying.js';
import { rootEntry } from '../tree/path.js';
import { checkTrees } from './check-trees.js';
import type { Loaded, LoadOptions } from './load-image.js';
import { type Output, writeNewFile } from './new-file.js';
import type { SavedImage, SaveImageProgress } from './save-image.js';
import { treeBlocks } from './tree-blocks.js';

export interface SaveCarOptions {
  signal?: AbortSignal;
  onProgress?: (progress: SaveImageProgress) => void;
}

const BUFFER = 1 << 20;
const READ_BYTES = 256 << 10;
/** Bytes around a block's content: a length, a CID. */
const SECTION_EXTRA = 1024;
/** The shortest section: its length, version, codec, and a sha2-256 multihash. */
const LEAST_SECTION = 1 + 2 + 34;

/**
 * Writes a tree as a CARv1 (https://ipld.io/specs/transport/car/carv1/): every block once, parents before
 * children. The file appears, or takes the place of another, when it is whole and durable.
 *
 * @throws LazytreeError BLOCK_MISSING, CORRUPT, USAGE (not a directory), NOT_FOUND, REFUSED, NO_SPACE
 */
export async function saveCar(
  store: BlockSource,
  root: Link,
  file: string,
  options: SaveCarOptions = {},
): Promise<SavedImage> {
  const entry = await rootEntry(store, root, options);
  if (entry.kind !== 'directory') throw new LazytreeError('USAGE', `${formatLink(root)} is not a directory`);
  const lease = 'lease' in store ? (store as LocalStore).lease([root]) : undefined;
  try {
    return await writeNewFile(file, async (output) => {
      const { writer, out } = CarWriter.create([linkToCid(root)]);
      const progress = { blocks: 0, bytes: 0, found: 0 };
      const produce = async () => {
        const onFound = (blocks: number) => {
          progress.found += blocks;
        };
        for await (const { link, bytes } of blocksInOrder(verifying(store), root, options, onFound)) {
          progress.blocks += 1;
          progress.bytes += bytes.length;
          await writer.put({ cid: linkToCid(link), bytes });
          options.onProgress?.(progress);
        }
        await writer.close();
      };
      // Each side waits for the other; when one fails the other's wait is dropped with it.
      await Promise.all([produce(), drain(out, output)]);
      return { root, blocks: progress.blocks, bytes: progress.bytes, size: output.length() };
    });
  } finally {
    lease?.release();
  }
}

async function* blocksInOrder(
  store: BlockSource,
  root: Link,
  { signal }: SaveCarOptions,
  onFound: (blocks: number) => void,
): AsyncGenerator<Block> {
  for await (const { link, bytes, content } of treeBlocks(store, root, { signal, distinct: 'cid' })) {
    onFound(1 + content.length);
    yield { link, bytes };
    yield* getMany(store, content, { signal });
  }
}

/** A CAR comes in many small pieces. */
async function drain(pieces: AsyncIterable<Uint8Array>, output: Output): Promise<void> {
  let gathered: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of pieces) {
    gathered.push(piece);
    bytes += piece.length;
    if (bytes < BUFFER) continue;
    await output.write(Buffer.concat(gathered));
    gathered = [];
    bytes = 0;
  }
  await output.write(Buffer.concat(gathered));
}

/**
 * Stores every block of a CARv1, each one verified, and checks that its roots are directories whose trees are
 * complete. With any failure nothing refers to what was stored so far. Durable once it resolves.
 *
 * @throws LazytreeError CORRUPT, INVALID_NODE, UNSUPPORTED (a CID that is not raw or dag-cbor with sha2-256, a
 * block that is too large, a CARv2), NOT_FOUND, REFUSED, NO_SPACE
 */
export async function loadCar(store: BlockStore, file: string, options: LoadOptions = {}): Promise<Loaded> {
  const { signal, onProgress } = options;
  const car = await openCar(file, signal);
  const lease = 'lease' in store ? (store as LocalStore).lease() : undefined;
  const sink = createBlockSink(store, signal);
  const progress = { blocks: 0, bytes: 0, found: 0 };
  try {
    const roots = await car.roots();
    for await (const { link, bytes } of car.blocks()) {
      await sink.putNodes([{ link, bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) }]);
      progress.blocks += 1;
      progress.bytes += bytes.length;
      onProgress?.(progress);
    }
    await sink.flush();
    await checkTrees(store, roots, `the CAR '${file}'`, { signal });
    return { roots, blocks: progress.blocks, added: sink.added };
  } finally {
    await car.close();
    lease?.release();
  }
}

/** The roots that a CAR names, without reading its blocks. @throws LazytreeError as loadCar */
export async function readCarRoots(file: string): Promise<Link[]> {
  const car = await openCar(file, undefined);
  try {
    return await car.roots();
  } finally {
    await car.close();
  }
}

interface CarFile {
  roots(): Promise<Link[]>;
  /** Verified. */
  blocks(): AsyncGenerator<Block>;
  close(): Promise<void>;
}

async function openCar(file: string, signal: AbortSignal | undefined): Promise<CarFile> {
  const handle = await open(toFsPath(file), 'r').catch((error: unknown) => {
    throw fromSystemError(error, `opening '${file}'`);
  });
  let handedOut = 0;
  let length = 0;
  let iterator: CarBlockIterator;

  /** A section's length is anyone's guess until it has been read: what is read for one is limited. */
  async function* pieces(source: FileHandle): AsyncGenerator<Uint8Array> {
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead, buffer } = await source.read(
        Buffer.allocUnsafeSlow(READ_BYTES),
        0,
        READ_BYTES,
        length,
      );
      if (bytesRead === 0) return;
      if (handedOut > MAX_BLOCK_BYTES + SECTION_EXTRA) {
        throw new LazytreeError(
          'UNSUPPORTED',
          `'${file}' has a block of more than ${MAX_BLOCK_BYTES} bytes, or is no CAR`,
          {
            hint: 'load a CAR that `lazytree save` wrote, or one with blocks that small',
          },
        );
      }
      handedOut += bytesRead;
      length += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  async function guarded<T>(task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (error) {
      if (error instanceof LazytreeError || signal?.aborted) throw error;
      const known = fromSystemError(error, `reading '${file}'`);
      if (known instanceof LazytreeError) throw known;
      throw notACar(file, known);
    }
  }

  async function* verified(): AsyncGenerator<Block> {
    const blocks = iterator[Symbol.asyncIterator]();
    for (let count = 1; ; count++) {
      handedOut = 0;
      const { done, value } = await guarded(() => blocks.next());
      if (done) return;
      if (count * LEAST_SECTION > length) throw notACar(file);
      yield checkBlock(value.cid, value.bytes, file);
    }
  }

  try {
    if (!(await handle.stat()).isFile()) throw notACar(file);
    iterator = await guarded(() => CarBlockIterator.fromIterable(pieces(handle)));
    if (iterator.version !== 1) {
      throw new LazytreeError('UNSUPPORTED', `'${file}' is a CAR of version ${iterator.version}, not 1`);
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  return {
    async roots() {
      const roots = (await iterator.getRoots()).map((cid) => linkIn(cid, file));
      if (roots.length > 0) return roots;
      throw new LazytreeError('UNSUPPORTED', `the CAR '${file}' has no root`);
    },
    blocks: verified,
    close: () => handle.close(),
  };
}

function notACar(file: string, cause?: Error): LazytreeError {
  const short = cause?.message === 'Unexpected end of data';
  const message = short ? `the CAR '${file}' is cut short` : `'${file}' is not a CAR`;
  return new LazytreeError('CORRUPT', message, { cause, hint: 'copy it again from where it came' });
}

function linkIn(cid: CID, file: string): Link {
  try {
    return cidToLink(cid);
  } catch (error) {
    throw new LazytreeError('UNSUPPORTED', `the CAR '${file}': ${(error as Error).message}`, {
      cause: error,
      hint: 'load a CAR of a lazytree directory',
    });
  }
}

function checkBlock(cid: CID, bytes: Uint8Array, file: string): Block {
  const link = linkIn(cid, file);
  if (bytes.length > MAX_BLOCK_BYTES) {
    throw new LazytreeError('UNSUPPORTED', `the CAR '${file}' has a block of ${bytes.length} bytes: ${cid}`, {
      hint: `blocks of up to ${MAX_BLOCK_BYTES} bytes can be stored`,
    });
  }
  if (digestOf(bytes) === linkDigest(link)) return { link, bytes };
  throw new LazytreeError(
    'CORRUPT',
    `the CAR '${file}' is damaged: the content of block ${cid} has another hash`,
    {
      hint: 'copy it again from where it came',
    },
  );
}
