import fs from 'node:fs';
import { join } from 'node:path';
import { type Link, type LocalStore, linkCodec, linkDigest, openLocalStore, RAW } from '@lazytree/core';

/** Of a record; behind it is content. */
const BEYOND_HEADER = 60;

/**
 * Makes a liar of a home without a daemon: every block of content is replaced by others of the same length, under the
 * old digests and with good checksums. Returns how many there are.
 */
export function forge(home: string): Promise<number> {
  return withContent(home, async (store, links) => {
    const blocks = [];
    for (const link of links) {
      const bytes = Buffer.from(await store.get(link));
      bytes[0] ^= 1;
      blocks.push({ link, bytes });
    }
    await store.forget(links.map(linkDigest));
    for (const block of blocks) await store.put(block);
    await store.flush();
  });
}

/** Has a disk change a byte of every block of content, in a home without a daemon. Returns how many there are. */
export function damage(home: string): Promise<number> {
  return withContent(home, async (store, links) => {
    for (const link of links) {
      const { segment, offset } = store.locate(link) as { segment: number; offset: number };
      const [file] = fs
        .readdirSync(join(store.directory, 'segments'))
        .filter((name) => Number.parseInt(name, 10) === segment);
      const handle = fs.openSync(join(store.directory, 'segments', file), 'r+');
      const at = offset + BEYOND_HEADER;
      const byte = Buffer.alloc(1);
      fs.readSync(handle, byte, 0, 1, at);
      byte[0] ^= 1;
      fs.writeSync(handle, byte, 0, 1, at);
      fs.closeSync(handle);
    }
  });
}

async function withContent(
  home: string,
  task: (store: LocalStore, links: Link[]) => Promise<void>,
): Promise<number> {
  const store = await openLocalStore(join(home, 'store'), { create: false });
  try {
    const links: Link[] = [];
    for await (const link of store.links()) if (linkCodec(link) === RAW) links.push(link);
    await task(store, links);
    return links.length;
  } finally {
    await store.close();
  }
}
