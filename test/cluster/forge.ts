import { join } from 'node:path';
import { linkCodec, linkDigest, openLocalStore, RAW } from '@lazytree/core';

/**
 * Makes a liar of a home without a daemon: every block of content is replaced by others of the same length, under the
 * old digests and with good checksums. Returns how many there are.
 */
export async function forge(home: string): Promise<number> {
  const store = await openLocalStore(join(home, 'store'), { create: false });
  try {
    const blocks = [];
    for await (const link of store.links()) {
      if (linkCodec(link) !== RAW) continue;
      const bytes = Buffer.from(await store.get(link));
      bytes[0] ^= 1;
      blocks.push({ link, bytes });
    }
    await store.forget(blocks.map(({ link }) => linkDigest(link)));
    for (const block of blocks) await store.put(block);
    await store.flush();
    return blocks.length;
  } finally {
    await store.close();
  }
}
