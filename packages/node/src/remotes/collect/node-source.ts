import {
  BlockMissingError,
  type BlockSource,
  DAG_CBOR,
  digestOf,
  FRAME_HEADER,
  type FramePlace,
  formatLink,
  type Link,
  linkDigest,
  readFrame,
  readFrameHeader,
} from '@lazytree/core';
import type { RemoteIndex } from '../index/remote-index.js';
import { packName } from '../object-names.js';
import type { PackReader } from '../packs/pack-reader.js';
import type { NodeRange } from '../root-manifest.js';

/** The nodes of a remote, read without being stored here. */
export interface NodeSource extends BlockSource {
  /** Reads nodes that will be asked for; where there are none any more is no error. */
  readAhead(ranges: readonly NodeRange[], signal: AbortSignal): Promise<void>;
}

/** Bytes of nodes that are remembered. */
const MOST_BYTES = 128 << 20;
const NEVER = new AbortController().signal;

export function createNodeSource(
  where: string,
  { index, packs }: { index: RemoteIndex; packs: PackReader },
): NodeSource {
  const nodes = new Map<string, Buffer>();
  let bytes = 0;

  function remember(all: Buffer, pack: string): void {
    for (let at = 0; at < all.length; ) {
      const name = `'${packName(pack)}' of ${where}`;
      const { codec, stored } = readFrameHeader(all, at, name);
      if (codec === DAG_CBOR) {
        for (const block of readFrame(all, at, name).blocks) {
          nodes.set(digestOf(block), block);
          bytes += block.length;
        }
      }
      at += FRAME_HEADER + stored;
    }
    for (const [oldest, block] of nodes) {
      if (bytes <= MOST_BYTES) break;
      nodes.delete(oldest);
      bytes -= block.length;
    }
  }

  async function read(frame: FramePlace, signal: AbortSignal): Promise<void> {
    remember(await packs.bytes(frame, signal), frame.pack);
  }

  async function find(link: Link, signal: AbortSignal): Promise<Buffer | undefined> {
    const digest = linkDigest(link);
    const known = nodes.get(digest);
    if (known) return known;
    const place = (await index.find([link], { signal })).get(link);
    if (!place) return undefined;
    await read(place.frame, signal);
    return nodes.get(digest);
  }

  return {
    describe: () => where,
    async get(link, { signal = NEVER } = {}) {
      const found = await find(link, signal);
      if (found) return found;
      throw new BlockMissingError(formatLink(link), where);
    },
    async has(link, { signal = NEVER } = {}) {
      return (await find(link, signal)) !== undefined;
    },
    async readAhead(ranges, signal) {
      for (const range of ranges) {
        await read(range, signal).catch((error: { code?: string }) => {
          if (error.code !== 'NOT_FOUND') throw error;
        });
      }
    },
    async close() {
      nodes.clear();
    },
  };
}
