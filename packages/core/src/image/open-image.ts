import { BlockMissingError, LazytreeError } from '../errors.js';
import { formatLink, type Link } from '../format/link.js';
import type { BlockSource, StoreOptions } from '../store/block-store.js';
import { checkBytes } from '../store/verified.js';
import { type ImageFile, openImageFile, readFrame } from './image-file.js';

/** The blocks of an image, read from it as they are asked for. */
export interface Image extends BlockSource {
  readonly roots: readonly Link[];
  /** Bytes of the file. */
  readonly size: number;
  /** Blocks in it. */
  readonly blocks: number;
  /** In order of digest. */
  links(options?: StoreOptions): AsyncIterable<Link>;
}

/** Frames kept decompressed: a walk goes from one to the next, a lookup comes back to a few. */
const CACHE_BYTES = 32 << 20;

/**
 * Opens an image by reading its index. Every block is verified as it is read.
 *
 * @throws LazytreeError CORRUPT, UNSUPPORTED (another version), NOT_FOUND, REFUSED
 */
export async function openImage(file: string): Promise<Image> {
  return imageSource(openImageFile(file), file);
}

/** The source closes the file that it is given. */
export function imageSource(image: ImageFile, file: string): Image {
  const { blocks, frames } = image;
  const name = `image(${file})`;
  const cache = new Map<number, Buffer>();
  let cached = 0;
  let open = true;

  function frameBytes(number: number): Buffer {
    const bytes = cache.get(number) ?? readFrame(image.fd, frames[number], file);
    if (!cache.delete(number)) cached += bytes.length;
    cache.set(number, bytes);
    for (const [oldest, { length }] of cache) {
      if (cached <= CACHE_BYTES || oldest === number) break;
      cache.delete(oldest);
      cached -= length;
    }
    return bytes;
  }

  function check({ signal }: StoreOptions): void {
    signal?.throwIfAborted();
    if (!open) throw new LazytreeError('FAILED', `the image '${file}' is closed`);
  }

  return {
    roots: image.roots,
    size: image.size,
    blocks: blocks.count,
    describe: () => name,
    async get(link, options = {}) {
      check(options);
      const block = blocks.find(link);
      if (block < 0) throw new BlockMissingError(formatLink(link), name);
      const start = blocks.offset(block);
      // A copy: a small block that is kept would keep its whole frame.
      const bytes = Buffer.from(
        frameBytes(blocks.frame(block)).subarray(start, start + blocks.length(block)),
      );
      return checkBytes(link, bytes, name);
    },
    async has(link, options = {}) {
      check(options);
      return blocks.find(link) >= 0;
    },
    async *links(options = {}) {
      for (let block = 0; block < blocks.count; block++) {
        check(options);
        yield blocks.link(block);
      }
    },
    async close() {
      open = false;
      cache.clear();
      image.close();
    },
  };
}
