import { dirname } from 'node:path';
import { checkRefName, formatLink, recordImport, setRef } from '@lazytree/core';
import type { Action } from '../command.js';
import { openTree } from '../open-tree.js';

export const command: Action = {
  arguments: '<file>',
  summary: 'make one tree of origins and trees, as a file says, and print its root',
  options: [
    ['--name <ref>', 'point a ref to the root, and record a snapshot'],
    ['-m, --message <text>', 'message of the snapshot'],
    ['--eager', 'fetch everything now, rather than when it is read'],
  ],
  details: `The file, JSON or YAML, has a path and what is to be there in each line of 'tree':

  tree:
    .: github:owner/app@v1.2.0
    node_modules: npm-lock:package-lock.json
    vendor/zlib: tar:https://example.org/zlib.tar.gz#strip=1`,
  collection: 'excludes',
  async run(context, [path], { name, message, eager }) {
    if (typeof name === 'string') checkRefName(name);
    const file = await context.file(path);
    const { composeTree, readComposition } = await import('@lazytree/node/compose');
    const parts = await readComposition(file);
    const { store } = await context.home({ create: true });
    const origins = await context.origins();
    const lease = store.lease();
    const progress = await context.progress('compose');
    try {
      const { root, entries } = await composeTree(parts, {
        store,
        origins,
        eager: eager === true,
        signal: context.signal,
        caller: { ...context.originCaller(), directory: dirname(file) },
        onProgress: ({ bytes }) => progress.update({ files: 0, bytes }),
        onNote: (text) => context.warn(text),
        openTree: async (spec) => {
          const { store: source, entry } = await openTree(context, spec);
          return { source, entry };
        },
      });
      await recordImport(store, root, file);
      const ref =
        typeof name === 'string'
          ? await setRef(store, { name, root, source: file, message: String(message ?? '') })
          : undefined;
      const cid = formatLink(root);
      const named = ref ? { ref: ref.name, sequence: ref.sequence } : {};
      return { data: { root: cid, entries, ...named }, text: `${cid}\n` };
    } finally {
      progress.stop();
      lease.release();
    }
  },
};
