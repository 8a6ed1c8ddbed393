import { fileChunks, formatLink, isFile, type Metadata } from '@lazytree/core';
import type { Action, Context } from '../command.js';
import { pathJson } from '../entry-json.js';
import { openTree } from '../open-tree.js';
import { batched, pathBytes } from '../output.js';

export const command: Action = {
  arguments: '<tree>',
  summary: 'show what an entry is: kind, CID, size, files, chunks',
  async run(context, [spec]) {
    const tree = await openTree(context, spec, { keepOrigin: true });
    try {
      const { entry, root, path, store, ref } = tree;
      const data: Record<string, unknown> = { root: formatLink(root), ...pathJson(path, entry) };
      if (ref) data.ref = { name: ref.name, sequence: ref.sequence, time: new Date(ref.time).toISOString() };
      if (isFile(entry)) {
        let chunks = 0;
        for await (const _ of fileChunks(store, entry, { signal: context.signal })) chunks += 1;
        data.chunks = chunks;
      }
      return { data, text: batched(lines(context, rows(data))) };
    } finally {
      await tree.close();
    }
  },
};

/** Paths and targets are printed as the bytes that they are. */
async function* lines(context: Context, found: readonly string[][]): AsyncGenerator<string | Uint8Array> {
  const width = Math.max(...found.map(([key]) => key.length));
  for (const [key, value] of found) {
    yield `${key.padEnd(width)}  `;
    yield await pathBytes(context, value);
    yield '\n';
  }
}

function rows(data: Record<string, unknown>): string[][] {
  const found: string[][] = [];
  for (const [key, value] of Object.entries(data)) {
    if (value === undefined || key === 'name') continue;
    if (key === 'metadata') found.push(...metadataRows(value as Metadata));
    else if (key === 'ref') found.push(['ref', (value as { name: string }).name]);
    else found.push([key, String(value) || '/']);
  }
  return found;
}

function metadataRows({ mode, seconds, nanoseconds }: Metadata): string[][] {
  const time = `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${String(nanoseconds).padStart(9, '0')}Z`;
  return [
    ['mode', mode.toString(8).padStart(4, '0')],
    ['modified', time],
  ];
}
