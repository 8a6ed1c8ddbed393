import {
  asDirectory,
  formatLink,
  getRef,
  LazytreeError,
  type Link,
  listRefs,
  type Ref,
  removeRef,
  setRef,
} from '@lazytree/core';
import type { Action, Context, Output } from '../command.js';
import { memberCluster } from '../member-cluster.js';
import { oneLine } from '../one-line.js';
import { openTree } from '../open-tree.js';
import { table } from '../output.js';

const set: Action = {
  arguments: '<name> <tree>',
  summary: 'point a ref to a tree, and record a snapshot',
  options: [['-m, --message <text>', 'message of the snapshot']],
  collection: 'excludes',
  async run(context, [name, spec], { message }) {
    const tree = await openTree(context, spec);
    const { store } = await context.home({ create: false });
    const { link } = asDirectory(tree.entry, spec);
    const ref = await setRef(store, { name, root: link, source: spec, message: String(message ?? '') });
    return { data: refJson(ref), text: `${formatLink(ref.root)}\n` };
  },
};

const get: Action = {
  arguments: '<name>',
  summary: 'print the root that a ref points to',
  async run(context, [name]) {
    const { store } = await context.home({ create: false });
    const ref = getRef(store, name);
    if (!ref) throw new LazytreeError('NOT_FOUND', `there is no ref '${name}'`);
    return { data: refJson(ref), text: `${formatLink(ref.root)}\n` };
  },
};

const list: Action = {
  arguments: '',
  summary: 'list the refs',
  options: [
    ['--cluster', 'those that the machines of the cluster publish'],
    ['--remote <name>', 'those of a remote'],
  ],
  async run(context, _, { cluster, remote }) {
    if (cluster && remote !== undefined)
      throw new LazytreeError('USAGE', '--cluster and --remote are two lists: ask for one');
    if (cluster) return listPublished(context);
    if (remote !== undefined) return listStored(context, String(remote));
    const { store } = await context.home({ create: false });
    const refs = await listRefs(store);
    const rows = refs.map(({ name, root, time }) => [name, formatLink(root), new Date(time).toISOString()]);
    return { data: { refs: refs.map(refJson) }, text: table(rows) };
  },
};

const rm: Action = {
  arguments: '<name>',
  summary: 'remove a ref; its blocks stay until gc',
  options: [['--remote <name>', 'that of a remote, until `remote gc`']],
  async run(context, [name], { remote }) {
    if (remote !== undefined) {
      await (await context.remote(String(remote))).removeRef(name, context.signal);
      return { data: { removed: name, remote } };
    }
    const { store } = await context.home({ create: false });
    await removeRef(store, name);
    return { data: { removed: name } };
  },
};

async function listPublished(context: Context): Promise<Output> {
  const cluster = await memberCluster(context);
  await cluster.ready(context.signal);
  const refs = (await cluster.refs()).map(({ root, time, ...rest }) => ({
    ...rest,
    root: formatLink(root as Link),
    time: new Date(time).toISOString(),
  }));
  const rows = refs.map(({ name, ownerName, owner, root, time }) => [
    `${name}@${ownerName}`,
    owner,
    root,
    time,
  ]);
  return { data: { refs }, text: table(rows) };
}

async function listStored(context: Context, remote: string): Promise<Output> {
  const refs: Record<'name' | 'root' | 'time' | 'by', string>[] = [];
  for await (const { ref } of (await context.remote(remote)).refs(context.signal)) {
    const { root, time, by } = ref.snapshots[0];
    refs.push({ name: ref.name, root: formatLink(root), time: new Date(time).toISOString(), by });
  }
  const rows = refs.map(({ name, root, time, by }) => [name, root, time, oneLine(by)]);
  return { data: { remote, refs }, text: table(rows) };
}

function refJson({ name, root, snapshot, sequence, time }: Ref): Record<string, unknown> {
  return {
    name,
    root: formatLink(root),
    snapshot: formatLink(snapshot),
    sequence,
    time: new Date(time).toISOString(),
  };
}

export const command = { summary: 'name trees', actions: { set, get, list, rm } };
