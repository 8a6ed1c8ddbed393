import {
  addPin,
  formatLink,
  LazytreeError,
  linkCodec,
  listPins,
  parseLink,
  RAW,
  removePin,
} from '@lazytree/core';
import type { Action, Context, Output } from '../command.js';
import { openTree } from '../open-tree.js';
import { table } from '../output.js';

const add: Action = {
  arguments: '<tree>',
  summary: 'keep a tree, whatever gc removes',
  collection: 'excludes',
  async run(context, [spec]) {
    const tree = await openTree(context, spec);
    const { entry } = tree;
    if (!('link' in entry))
      throw new LazytreeError('USAGE', `'${spec}' is a ${entry.kind}, which has no CID to pin`);
    const { store } = await context.home({ create: false });
    await addPin(store, entry.link);
    const root = formatLink(entry.link);
    return { data: { pinned: root }, text: `${root}\n` };
  },
};

const rm: Action = {
  arguments: '<tree>',
  summary: 'no longer keep a tree',
  options: [['--remote <name>', 'at a remote, by its root']],
  async run(context, [spec], { remote }) {
    if (remote !== undefined) {
      await (await context.remote(String(remote))).unpin(parseLink(spec), context.signal);
      return { data: { unpinned: spec, remote } };
    }
    const { store } = await context.home({ create: false });
    const pinned = (await listPins(store)).find(({ root }) => formatLink(root) === spec);
    const link = pinned?.root ?? (await linkOf());
    await removePin(store, link);
    return { data: { unpinned: formatLink(link) } };

    async function linkOf() {
      const { entry } = await openTree(context, spec);
      if (!('link' in entry))
        throw new LazytreeError('USAGE', `'${spec}' is a ${entry.kind}, which has no CID`);
      return entry.link;
    }
  },
};

const list: Action = {
  arguments: '',
  summary: 'list the pins',
  options: [['--remote <name>', 'those of a remote: what was pushed without a name']],
  async run(context, _, { remote }) {
    if (remote !== undefined) return listAtRemote(context, String(remote));
    const { store } = await context.home({ create: false });
    const pins = (await listPins(store)).map(({ root, time }) => ({
      root: formatLink(root),
      kind: linkCodec(root) === RAW ? 'content' : 'tree',
      time: new Date(time).toISOString(),
    }));
    return { data: { pins }, text: table(pins.map(({ root, time }) => [root, time])) };
  },
};

async function listAtRemote(context: Context, remote: string): Promise<Output> {
  const pins: { root: string; time: string }[] = [];
  for await (const { root, time } of (await context.remote(remote)).pins(context.signal))
    pins.push({ root: formatLink(root), time: new Date(time).toISOString() });
  return { data: { remote, pins }, text: table(pins.map(({ root, time }) => [root, time])) };
}

export const command = { summary: 'keep trees', actions: { add, rm, list } };
