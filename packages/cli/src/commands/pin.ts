import { addPin, formatLink, LazytreeError, linkCodec, listPins, RAW, removePin } from '@lazytree/core';
import type { Action } from '../command.js';
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
  async run(context, [spec]) {
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
  async run(context) {
    const { store } = await context.home({ create: false });
    const pins = (await listPins(store)).map(({ root, time }) => ({
      root: formatLink(root),
      kind: linkCodec(root) === RAW ? 'content' : 'tree',
      time: new Date(time).toISOString(),
    }));
    return { data: { pins }, text: table(pins.map(({ root, time }) => [root, time])) };
  },
};

export const command = { summary: 'keep trees', actions: { add, rm, list } };
