import {
  asDirectory,
  checkRefName,
  findImport,
  formatLink,
  recordImport,
  resolveTreeOrigins,
  setRef,
} from '@lazytree/core';
import type { Action } from '../command.js';
import { openTree } from '../open-tree.js';

export const command: Action = {
  arguments: '<tree>',
  summary: 'fetch what all origins in a tree stand for, and print the root of the tree without them',
  options: [
    ['--name <ref>', 'point a ref to the root, and record a snapshot'],
    ['-m, --message <text>', 'message of the snapshot'],
  ],
  details: 'The tree that is named stays as it is.',
  collection: 'excludes',
  async run(context, [spec], { name, message }) {
    if (typeof name === 'string') checkRefName(name);
    const tree = await openTree(context, spec);
    const progress = await context.progress('resolve');
    const { store } = await context.home({ create: true });
    const lease = store.lease();
    let resolved = 0;
    try {
      const { link } = asDirectory(tree.entry, spec);
      const {
        link: root,
        size,
        files,
      } = await resolveTreeOrigins(tree.store, store, link, {
        signal: context.signal,
        onResolved() {
          resolved += 1;
          progress.update({ files: resolved, bytes: 0 });
        },
      });
      await store.flush();
      if (!findImport(store, root)) await recordImport(store, root, spec);
      const ref =
        typeof name === 'string'
          ? await setRef(store, { name, root, source: spec, message: String(message ?? '') })
          : undefined;
      const cid = formatLink(root);
      const named = ref ? { ref: ref.name, sequence: ref.sequence } : {};
      return { data: { root: cid, size, files, resolved, ...named }, text: `${cid}\n` };
    } finally {
      progress.stop();
      lease.release();
      await tree.close();
    }
  },
};
