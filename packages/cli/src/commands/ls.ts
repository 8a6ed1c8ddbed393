import {
  type Entry,
  formatLink,
  isDirectoryLike,
  listDirectory,
  type WalkedEntry,
  walkTree,
} from '@lazytree/core';
import type { ResolvedTree } from '@lazytree/node';
import type { Action, Context } from '../command.js';
import { pathJson } from '../entry-json.js';
import { oneLine } from '../one-line.js';
import { openTree } from '../open-tree.js';
import { batched, pathBytes } from '../output.js';

export const command: Action = {
  arguments: '<tree>',
  summary: 'list a directory of a tree',
  options: [
    ['-l, --long', 'kind, size, CID and link target of each entry'],
    ['-R, --recursive', 'everything below, by path'],
  ],
  details: 'Sizes of directories are the bytes of all files below. Listing never reads content.',
  async run(context, [spec], { long, recursive }) {
    const tree = await openTree(context, spec);
    if (context.json) {
      const entries: Record<string, unknown>[] = [];
      for await (const { path, entry } of entriesOf(context, tree, recursive === true))
        entries.push(pathJson(path, entry));
      await tree.close();
      return { data: { root: formatLink(tree.root), path: tree.path, entries } };
    }
    return {
      data: undefined,
      text: batched(lines(context, tree, { long: long === true, recursive: recursive === true })),
    };
  },
};

async function* entriesOf(
  { signal }: Context,
  { store, entry, path }: ResolvedTree,
  recursive: boolean,
): AsyncGenerator<WalkedEntry> {
  if (entry.kind !== 'directory') yield { path: path.split('/').at(-1) ?? '', entry };
  else if (recursive) yield* walkTree(store, entry.link, { signal });
  else
    for (const item of await listDirectory(store, entry.link, { signal }))
      yield { path: item.name, entry: item };
}

async function* lines(
  context: Context,
  tree: ResolvedTree,
  { long, recursive }: { long: boolean; recursive: boolean },
): AsyncGenerator<Uint8Array | string> {
  try {
    for await (const { path, entry } of entriesOf(context, tree, recursive)) {
      if (long) yield longColumns(entry);
      yield await pathBytes(context, path);
      if (isDirectoryLike(entry)) yield '/';
      if (long && entry.kind === 'symlink') {
        yield ' -> ';
        yield await pathBytes(context, entry.target);
      }
      if (long && entry.kind === 'origin') yield ` <- ${oneLine(`${entry.driver}:${entry.reference}`)}`;
      yield '\n';
    }
  } finally {
    await tree.close();
  }
}

const LETTERS = { file: '-', executable: 'x', symlink: 'l', directory: 'd', origin: 'o' };
/** Length of a CIDv1 with sha2-256 in base32. */
const CID_WIDTH = 59;

function longColumns(entry: Entry): string {
  const size = 'size' in entry ? entry.size : 0;
  const cid = 'link' in entry ? formatLink(entry.link) : '-';
  return `${LETTERS[entry.kind]} ${String(size).padStart(12)}  ${cid.padEnd(CID_WIDTH)}  `;
}
