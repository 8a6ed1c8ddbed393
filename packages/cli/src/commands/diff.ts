import { asDirectory, type Change, diffTrees, formatLink, router } from '@lazytree/core';
import { isImageSpec, type ResolvedTree } from '@lazytree/node';
import type { Action, Context } from '../command.js';
import { entryJson } from '../entry-json.js';
import { openTree } from '../open-tree.js';
import { batched, pathBytes } from '../output.js';

export const command: Action = {
  arguments: '<from> <to>',
  summary: 'list what differs between two trees',
  details: 'A added, D deleted, M modified, T changed its kind. Reads only what differs.',
  async run(context, [from, to]) {
    const a = await openTree(context, from);
    const b = await openTree(context, to);
    const changes = compare(context, { a, b, from, to });
    if (!context.json) return { data: undefined, text: batched(lines(context, changes)) };
    const list: Record<string, unknown>[] = [];
    for await (const change of changes) list.push(changeJson(change));
    return { data: { from: formatLink(a.root), to: formatLink(b.root), changes: list } };
  },
};

interface Compared {
  a: ResolvedTree;
  b: ResolvedTree;
  from: string;
  to: string;
}

async function* compare({ signal }: Context, { a, b, from, to }: Compared): AsyncGenerator<Change> {
  try {
    const images = isImageSpec(from) || isImageSpec(to);
    const store = images ? router(a.store, b.store) : a.store;
    yield* diffTrees(store, asDirectory(a.entry, from).link, asDirectory(b.entry, to).link, { signal });
  } finally {
    await a.close();
    await b.close();
  }
}

const LETTERS = { added: 'A', removed: 'D', modified: 'M', type: 'T' };

async function* lines(context: Context, changes: AsyncIterable<Change>): AsyncGenerator<Uint8Array | string> {
  for await (const { path, change, to, from } of changes) {
    yield `${LETTERS[change]}\t`;
    yield await pathBytes(context, path);
    if ((to ?? from)?.kind === 'directory') yield '/';
    yield '\n';
  }
}

function changeJson({ path, change, from, to }: Change): Record<string, unknown> {
  return { path, change, ...(from ? { from: entryJson(from) } : {}), ...(to ? { to: entryJson(to) } : {}) };
}
