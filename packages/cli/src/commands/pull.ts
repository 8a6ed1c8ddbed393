import {
  formatLink,
  getRef,
  LazytreeError,
  type Link,
  type LocalStore,
  parseLink,
  setRef,
} from '@lazytree/core';
import type { ReadRef, Remote } from '@lazytree/node/remotes';
import type { Action, Context } from '../command.js';

export const command: Action = {
  arguments: '<tree> <remote>',
  summary: 'fetch all of a tree that a remote has: by its name there, or by its root',
  options: [
    ['--name <ref>', 'the ref that is to stand for it here (default: the name there)'],
    ['--force', 'move a ref that stands for something else here'],
  ],
  details: 'Without fetching all of it, NAME@REMOTE can be mounted, exported and listed. Prints the root.',
  where: 'daemon',
  collection: 'excludes',
  async run(context, [spec, from], { name: given, force }) {
    const remote = await context.remote(from);
    const found = await findThere(remote, spec, context.signal);
    const root = 'ref' in found ? found.ref.snapshots[0].root : found.root;
    const name = given === undefined ? ('ref' in found ? found.ref.name : undefined) : String(given);
    const { store } = await context.home({ create: false });
    if (name !== undefined && force !== true) await refuseOther(context, name, found);
    const lease = store.lease([root]);
    const progress = await context.progress('pull');
    try {
      // Makes the remote one of those that are asked.
      await (await context.network())?.remotes?.attach();
      const { files, bytes } = await context.host().prefetch(root, {
        caller: context.originCaller(),
        signal: context.signal,
        onProgress: (state) => progress.update(state),
      });
      if (name !== undefined) await point(store, name, root, `${spec}@${from}`);
      if ('ref' in found) await remote.pulled(found, context.signal);
      const cid = formatLink(root);
      return {
        data: { root: cid, remote: from, name: name ?? null, files, bytes },
        text: `${cid}\n`,
      };
    } finally {
      progress.stop();
      lease.release();
    }
  },
};

async function findThere(
  remote: Remote,
  spec: string,
  signal: AbortSignal,
): Promise<ReadRef | { root: Link }> {
  const found = await remote.ref(spec, signal);
  if (found) return found;
  try {
    return { root: parseLink(spec) };
  } catch (cause) {
    throw new LazytreeError('NOT_FOUND', `there is no '${spec}' at the remote '${remote.name}'`, {
      cause,
      hint: `\`lazytree ref list --remote ${remote.name}\` lists what there is`,
    });
  }
}

/** A ref here is moved on from what it was at the remote, and a workspace's is moved by nobody else. */
async function refuseOther(context: Context, name: string, found: ReadRef | { root: Link }): Promise<void> {
  const { store } = await context.home({ create: false });
  const here = getRef(store, name);
  const there = 'ref' in found ? found.ref.snapshots.map(({ root }) => root) : [found.root];
  if (here?.root === there[0]) return;
  const workspaces = await context.host().workspaces.list();
  if (workspaces.some((workspace) => workspace.name === name)) {
    throw new LazytreeError('REFUSED', `'${name}' is a workspace here, whose ref follows what it saves`, {
      hint: `\`lazytree workspace restore ${name} ${name}@REMOTE\` makes it what the remote has`,
    });
  }
  if (!here || there.includes(here.root)) return;
  throw new LazytreeError('REFUSED', `the ref '${name}' stands for something that is not at the remote`, {
    hint: 'pull it under another --name, or move it with --force; `log` keeps what it was',
  });
}

async function point(store: LocalStore, name: string, root: Link, source: string): Promise<void> {
  const here = getRef(store, name);
  if (here?.root !== root) await setRef(store, { name, root, source, message: 'pulled' });
}
