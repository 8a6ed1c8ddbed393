import { createTreeWriter, type DirectoryEntry, type Entry, type Link, listDirectory } from '@lazytree/core';
import { driver as npm } from '../../../dist/origins/npm/npm-driver.js';
import type { TestContext } from '../driver-context.js';

/** A tree with all its origins fetched, and what is laid over them in its place. */
export async function materialise(root: Link, context: TestContext): Promise<DirectoryEntry> {
  const found: [string, Entry][] = [];
  async function walk(prefix: string, link: Link): Promise<void> {
    for (const entry of await listDirectory(context.store, link)) {
      const path = prefix + entry.name;
      if (entry.kind !== 'directory') found.push([path, entry]);
      if (entry.kind === 'directory') await walk(`${path}/`, entry.link);
      if (entry.kind === 'origin' && entry.plus) await walk(`${path}/`, entry.plus);
    }
  }
  await walk('', root);
  const tree = createTreeWriter(context.store, { signal: context.signal });
  for (const [path, entry] of found) {
    if (entry.kind !== 'origin') tree.put(path, entry);
    else {
      const { reference, integrity } = entry;
      tree.put(path, (await npm.fetch({ reference, ...(integrity && { integrity }) }, context)).entry);
    }
  }
  return tree.finish();
}
