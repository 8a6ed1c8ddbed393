import { asDirectory, formatLink, getRef, type ImageCompression, LazytreeError } from '@lazytree/core';
import { DEFAULT_KEEP, parseKeep } from '@lazytree/node';
import type { StorageTraffic } from '@lazytree/node/remotes';
import type { Action } from '../command.js';
import { openTree } from '../open-tree.js';

export const command: Action = {
  arguments: '<tree> <remote>',
  summary: 'store a tree at a remote: what of it is not there yet',
  options: [
    ['--name <ref>', 'the name that stands for it there (default: the ref that TREE names)'],
    ['-m, --message <text>', 'message of the snapshot'],
    ['--force', 'take the name, whoever has moved it meanwhile'],
    ['--keep <counts>', 'snapshots to keep there (default: last=8,hourly=24,daily=7,weekly=8)'],
    ['--compression <kind>', 'zstd or snappy', 'zstd'],
  ],
  details: `A tree without a name is pinned there, and found by its root. Prints the root.`,
  collection: 'excludes',
  async run(context, [spec, to], { name: given, message, force, keep: counts, compression }) {
    if (compression !== 'zstd' && compression !== 'snappy')
      throw new LazytreeError('USAGE', `--compression is zstd or snappy, not '${compression}'`);
    const keep = counts === undefined ? DEFAULT_KEEP : parseKeep(String(counts));
    const remote = await context.remote(to);
    // A push walks all of it, and brings what is not here.
    const tree = await openTree(context, spec, { mayLack: true });
    const { store } = await context.home({ create: false });
    const name = given === undefined ? (getRef(store, spec) ? spec : undefined) : String(given);
    const before = remote.storage.traffic();
    const progress = await context.progress('push');
    try {
      const { root, ...pushed } = await remote.push({
        root: asDirectory(tree.entry, spec).link,
        name,
        message: String(message ?? ''),
        force: force === true,
        keep,
        compression: compression as ImageCompression,
        signal: context.signal,
        onProgress: ({ blocks, bytes }) => progress.update({ files: blocks, bytes }),
      });
      progress.stop();
      const cid = formatLink(root);
      const traffic = difference(remote.storage.traffic(), before);
      return { data: { root: cid, remote: to, name: name ?? null, ...pushed, traffic }, text: `${cid}\n` };
    } finally {
      progress.stop();
      await tree.close();
    }
  },
};

/** In a daemon others may use the remote at the same time: then it is theirs, too. */
function difference(after: StorageTraffic, before: StorageTraffic): StorageTraffic {
  return {
    requests: after.requests - before.requests,
    sent: after.sent - before.sent,
    received: after.received - before.received,
  };
}
