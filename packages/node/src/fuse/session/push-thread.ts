import fs from 'node:fs';
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { CorruptBlockError, errnoOf, openSharedReader } from '@lazytree/core';
import { createReplyWriter } from '../protocol/reply.js';
import type { PushData, PushList } from './messages.js';

/**
 * Puts small files into the kernel's page cache before they are asked for (FUSE_NOTIFY_STORE). A thread of its own:
 * the kernel takes a page that it waits for a READ to fill only after the READ has been answered, so the thread that
 * answers must never be here.
 */

/** Files after which newer lists are looked for: what was read last says best what will be read next. */
const SLICE = 16;

const { device, storeDirectory, files } = workerData as PushData;
const store = await openSharedReader(storeDirectory);
const reply = createReplyWriter(64, { uid: 0, gid: 0 });

/** The newest last. */
const lists: PushList[] = [];

files.on('message', (list: PushList) => {
  lists.push(list);
  while (lists.length > 0) {
    for (let next = receiveMessageOnPort(files); next; next = receiveMessageOnPort(files)) {
      lists.push(next.message as PushList);
    }
    const newest = lists[lists.length - 1];
    for (const { node, link, size } of newest.splice(0, SLICE)) pushFile(node, link, size);
    if (newest.length === 0) lists.pop();
  }
});
files.on('close', () => {
  void store.close();
});

function pushFile(node: number, link: PushList[number]['link'], size: number): void {
  try {
    const bytes = store.get(link);
    if (bytes?.length === size) fs.writevSync(device, [reply.storeHeader(node, 0, size), bytes]);
  } catch (error) {
    // Nobody has asked for it yet: whoever does is told what is wrong with it, or that it is unmounted.
    const gone = ['ENOENT', 'ENODEV', 'EBADF', 'EINTR', 'ENOMEM'].includes(errnoOf(error) ?? '');
    if (!gone && !(error instanceof CorruptBlockError)) throw error;
  }
}
