import fs from 'node:fs';
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { errnoOf, openSharedReader } from '@lazytree/core';
import { createReplyWriter } from '../protocol/reply.js';
import type { PushList } from '../tree/push-planner.js';
import { givenIn } from './given.js';
import type { PushData } from './messages.js';

/**
 * Puts small files into the kernel's page cache before they are asked for (FUSE_NOTIFY_STORE). A thread of its own:
 * the kernel takes a page that it waits for a READ to fill only after the READ has been answered, so the thread that
 * answers must never be here.
 */

/** Files after which newer lists are looked for: what was read last says best what will be read next. */
const SLICE = 32;

const { device, storeDirectory, lists: port, given: memory } = workerData as PushData;
const store = await openSharedReader(storeDirectory);
const given = givenIn(memory);
const reply = createReplyWriter(64, { uid: 0, gid: 0 });

/** What is left of each list, the newest last. */
const lists: { list: PushList; from: number }[] = [];

port.on('message', (list: PushList) => {
  lists.push({ list, from: 0 });
  while (lists.length > 0) {
    for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
      lists.push({ list: next.message as PushList, from: 0 });
    }
    const newest = lists[lists.length - 1];
    pushSlice(newest.list, newest.from);
    newest.from += SLICE;
    if (newest.from < newest.list.links.length) continue;
    lists.splice(lists.indexOf(newest), 1);
    given.end();
  }
});
port.on('close', () => {
  void store.close();
});

function pushSlice({ nodes, sizes, links }: PushList, from: number): void {
  const wanted: number[] = [];
  for (let i = from; i < Math.min(from + SLICE, links.length); i++) if (!given.has(nodes[i])) wanted.push(i);
  store.getAll(
    wanted.map((i) => links[i]),
    (bytes, position) => {
      const i = wanted[position];
      if (bytes.length === sizes[i] && !given.has(nodes[i])) pushFile(nodes[i], bytes);
    },
  );
}

function pushFile(node: number, bytes: Uint8Array): void {
  given.add(node);
  try {
    fs.writevSync(device, [reply.storeHeader(node, 0, bytes.length), bytes]);
  } catch (error) {
    // Forgotten by the kernel, unmounted, or no memory to spare: nobody has asked for it yet.
    if (!['ENOENT', 'ENODEV', 'EBADF', 'EINTR', 'ENOMEM'].includes(errnoOf(error) ?? '')) throw error;
  }
}
