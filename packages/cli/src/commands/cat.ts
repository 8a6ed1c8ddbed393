import { type FileEntry, formatLink, isFile, LazytreeError, readFile } from '@lazytree/core';
import type { ResolvedTree } from '@lazytree/node';
import type { Action, Context } from '../command.js';
import { arrivingFile, openTree } from '../open-tree.js';

export const command: Action = {
  arguments: '<tree/path>',
  summary: 'print a file of a tree',
  async run(context, [spec]) {
    const tree = await openTree(context, spec);
    const { entry } = tree;
    if (!isFile(entry)) {
      await tree.close();
      throw new LazytreeError('USAGE', `'${spec}' is a ${entry.kind}, not a file`);
    }
    if (context.json) {
      const parts: Uint8Array[] = [];
      for await (const bytes of content(context, spec, { tree, entry })) parts.push(bytes);
      const data = {
        cid: formatLink(entry.link),
        size: entry.size,
        base64: Buffer.concat(parts).toString('base64'),
      };
      return { data };
    }
    return { data: undefined, text: content(context, spec, { tree, entry }) };
  },
};

async function* content(
  context: Context,
  spec: string,
  { tree, entry }: { tree: ResolvedTree; entry: FileEntry },
): AsyncGenerator<Uint8Array> {
  const { store, stop } = await arrivingFile(context, spec, { tree, entry });
  try {
    yield* readFile(store, entry, { signal: context.signal });
  } finally {
    await stop();
    await tree.close();
  }
}
