import { once } from 'node:events';
import fs from 'node:fs';
import { constants } from 'node:os';
import { basename } from 'node:path';
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { errnoOf, LazytreeError, MAX_NAME_BYTES, openSharedReader } from '@lazytree/core';
import {
  FUSE_MAJOR,
  InitFlag,
  InitFlag2,
  MODIFYING,
  NEWEST_MINOR,
  OLDEST_MINOR,
  Opcode,
  ROOT_NODE,
} from '../protocol/kernel.js';
import { createReplyWriter } from '../protocol/reply.js';
import {
  decodeForget,
  decodeGetxattr,
  decodeHeader,
  decodeInit,
  decodeInterrupt,
  decodeListxattr,
  decodeName,
  decodeRead,
  ProtocolError,
  type RequestHeader,
} from '../protocol/request.js';
import { createBlocks, MissingBlocks, MissingOrigin } from '../tree/blocks.js';
import { openNodeTable } from '../tree/node-table.js';
import { createTreeFileSystem } from '../tree/tree-file-system.js';
import { givenIn } from './given.js';
import { mapTable, prepareMapping } from './mapped-table.js';
import type { FromServer, ServeData, ToServer } from './messages.js';

/**
 * Serves one FUSE connection: reads a request, answers it, reads the next. The thread blocks in the read, so that a
 * request costs one wake-up; what it needs from elsewhere it asks of the thread that started it, and goes on. See
 * docs/mounts.md.
 */

const { ENOSYS, EROFS, EIO, ENAMETOOLONG, EINTR, ENODATA, ERANGE, ENOENT, EPROTO } = constants.errno;
/** The kernel wants room for a request of `MAX_WRITE`; a batch of forgotten nodes fills what there is. */
const REQUEST_BYTES = 128 << 10;
const MAX_WRITE = 4096;
const PAGE = 4096;
/** 1 MiB, the most that Linux allows without its limit being raised. */
const MAX_PAGES = 256;
const MAX_READAHEAD = 4 << 20;
const MAX_BACKGROUND = 64;
/** A reply is one call, which takes 1024 buffers (IOV_MAX); a file of crumbs has more. */
const MOST_PIECES = 1000;
const CID_XATTR = 'user.lazytree.cid';
const WANTED =
  InitFlag.ASYNC_READ |
  InitFlag.DO_READDIRPLUS |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.MAX_PAGES |
  InitFlag.CACHE_SYMLINKS |
  InitFlag.EXPLICIT_INVAL_DATA;
const NEEDED = InitFlag.DO_READDIRPLUS | InitFlag.NO_OPEN_SUPPORT | InitFlag.NO_OPENDIR_SUPPORT;

const port = parentPort as MessagePort;
// A table is likely to be wanted, and to load what maps it takes longer than the rest.
prepareMapping();
const { device, storeDirectory, view, xattrs, owner, push, given, table } = await firstMessage(port);
const store = await openSharedReader(storeDirectory);
const blocks = createBlocks(store);
const pushing = givenIn(given);
const memory = table && mapTable(table.descriptor);
const files = createTreeFileSystem(blocks, {
  view,
  given: pushing,
  table: memory && openNodeTable(memory),
});
const reply = createReplyWriter(MAX_PAGES * PAGE, owner);
const allRoots = 'allRoots' in view;
/** Requests whose content is being fetched, as they came. */
const waiting = new Map<number, { bytes: Buffer; origin?: MissingOrigin }>();
const counts: Record<number, number> = {};

let stopped = false;

const send = (message: FromServer) => port.postMessage(message);

/** The thread may have been started before there was anything to serve. */
async function firstMessage(from: MessagePort): Promise<ServeData> {
  const [data] = await once(from, 'message');
  return data;
}

/** Whether the kernel took it: it has forgotten a request that was interrupted meanwhile. */
function write(...parts: Uint8Array[]): boolean {
  try {
    if (parts.length === 1) fs.writeSync(device, parts[0]);
    else fs.writevSync(device, parts);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** @param again what it lacked has been fetched */
function handle(bytes: Buffer, again = false): void {
  const header = decodeHeader(bytes);
  blocks.recycle();
  if (!again) counts[header.opcode] = (counts[header.opcode] ?? 0) + 1;
  try {
    answer(header, bytes);
  } catch (error) {
    if (error instanceof ProtocolError || isGone(error)) throw error;
    if (!(error instanceof MissingBlocks || error instanceof MissingOrigin)) {
      fail(header, error);
      return;
    }
    if (!again) files.use(header.node).fetched += 1;
    if (header.thread === process.pid) {
      fail(header, new LazytreeError('FAILED', 'the daemon would wait for itself to fetch it'));
      return;
    }
    fetchFirst(header, bytes, error);
  }
}

function fetchFirst(
  { unique, node }: RequestHeader,
  bytes: Buffer,
  what: MissingBlocks | MissingOrigin,
): void {
  const about = { type: 'missing', request: unique, ...whereabouts(node) } as const;
  if (what instanceof MissingOrigin) {
    waiting.set(unique, { bytes: Buffer.from(bytes), origin: what });
    send({ ...about, links: [], corrupt: false, origin: what.entry });
    return;
  }
  waiting.set(unique, { bytes: Buffer.from(bytes) });
  send({ ...about, links: what.links, corrupt: what.corrupt });
}

function fail({ unique, node }: RequestHeader, error: unknown): void {
  send({ type: 'failure', ...whereabouts(node), error });
  end(unique, node, EIO);
}

/** Ends a request that cannot be answered. */
function end(unique: number, node: number, errno: number): void {
  files.use(node).requests += 1;
  write(reply.status(unique, errno));
}

function whereabouts(node: number): { root: string; path: string } {
  try {
    return files.describe(node);
  } catch {
    // Its own directory is what is missing.
    return { root: '', path: `node ${node}` };
  }
}

function answer(header: RequestHeader, bytes: Buffer): void {
  const { opcode, unique, node } = header;
  switch (opcode) {
    case Opcode.READ:
      read(unique, node, bytes);
      return;
    case Opcode.READDIRPLUS:
    case Opcode.READDIR:
      readdir(header, bytes);
      return;
    case Opcode.LOOKUP:
      lookup(unique, node, decodeName(bytes));
      return;
    case Opcode.GETATTR:
      files.use(node).requests += 1;
      write(reply.attributes(unique, files.attributes(node)));
      return;
    case Opcode.READLINK:
      files.use(node).requests += 1;
      write(reply.bytes(unique, files.target(node)));
      return;
    case Opcode.FORGET:
    case Opcode.BATCH_FORGET:
      for (const { node: forgotten, lookups } of decodeForget(header, bytes))
        files.forget(forgotten, lookups);
      return;
    case Opcode.GETXATTR:
      getxattr(unique, node, bytes);
      return;
    case Opcode.LISTXATTR:
      listxattr(unique, node, bytes);
      return;
    case Opcode.STATFS:
      write(reply.statfs(unique, files.totals()));
      // This is also how the thread that started this one says that there is a message.
      takeMessages();
      return;
    case Opcode.INTERRUPT:
      interrupt(decodeInterrupt(bytes).unique);
      return;
    case Opcode.INIT:
      init(unique, bytes);
      return;
    case Opcode.DESTROY:
      write(reply.status(unique));
      return;
    default:
      // OPEN and OPENDIR among them: the kernel does without from then on, and keeps its caches.
      write(reply.status(unique, MODIFYING.has(opcode) ? EROFS : ENOSYS));
  }
}

function init(unique: number, bytes: Buffer): void {
  const { major, minor, maxReadahead, flags, flags2 } = decodeInit(bytes);
  if (major > FUSE_MAJOR) {
    // The kernel asks again in the version that we tell it.
    write(reply.init(unique, NEWEST_MINOR, NO_OPTIONS));
    return;
  }
  if (major < FUSE_MAJOR || minor < OLDEST_MINOR || (flags & NEEDED) !== NEEDED) {
    write(reply.status(unique, EPROTO));
    throw new ProtocolError(`the kernel speaks ${major}.${minor}; 7.${OLDEST_MINOR} is needed (Linux 5.4)`);
  }
  const common = Math.min(minor, NEWEST_MINOR);
  write(
    reply.init(unique, common, {
      maxReadahead: Math.max(maxReadahead, MAX_READAHEAD),
      flags: flags & WANTED,
      maxBackground: MAX_BACKGROUND,
      maxWrite: MAX_WRITE,
      maxPages: MAX_PAGES,
    }),
  );
  sayServing((flags & InitFlag.INIT_EXT) !== 0 && (flags2 & InitFlag2.HAS_RESEND) !== 0);
}

function sayServing(resends: boolean): void {
  // That of this thread: proc(5).
  const thread = Number(basename(fs.readlinkSync('/proc/thread-self')));
  send({ type: 'serving', thread, resends });
}

/**
 * Goes on where another process was killed. INIT has been answered, with what is the same for all connections; what
 * that process had read and not answered comes again.
 */
function goOn(): void {
  write(reply.resend());
  sayServing(true);
}

const NO_OPTIONS = { maxReadahead: 0, flags: 0, maxBackground: 0, maxWrite: MAX_WRITE, maxPages: 0 };

function lookup(unique: number, parent: number, name: Buffer): void {
  if (name.length > MAX_NAME_BYTES) {
    // The kernel passes up to 1024 bytes on.
    write(reply.status(unique, ENAMETOOLONG));
    return;
  }
  const node = files.lookup(parent, name);
  files.use(node === 0 ? parent : node).requests += 1;
  if (node === 0) {
    // A root that is not here may come; a name in a tree never does.
    const mayCome = allRoots && parent === ROOT_NODE;
    write(mayCome ? reply.status(unique, ENOENT) : reply.noEntry(unique));
    return;
  }
  const encoded = reply.entry(unique, files.attributes(node));
  files.remember(node);
  if (!write(encoded)) files.forget(node, 1);
}

function read(unique: number, node: number, bytes: Buffer): void {
  const { offset, size } = decodeRead(bytes);
  const pieces = files.read(node, offset, size);
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const use = files.use(node);
  use.requests += 1;
  use.reads += 1;
  use.bytes += length;
  const parts = pieces.length < MOST_PIECES ? pieces : [Buffer.concat(pieces)];
  write(reply.headerOf(unique, length), ...parts);
  if (push) pushAfter(node, push);
}

/** After the answer: nobody waits for this. */
function pushAfter(node: number, to: MessagePort): void {
  const list = files.toPush(node);
  if (!list) return;
  files.use(node).pushed += list.links.length;
  pushing.begin();
  to.postMessage(list);
}

function readdir({ unique, node, opcode }: RequestHeader, bytes: Buffer): void {
  const { offset, size } = decodeRead(bytes);
  const plus = opcode === Opcode.READDIRPLUS;
  const room = Math.min(size, MAX_PAGES * PAGE);
  reply.beginDirectory();
  const added = files.list(node, offset, (name, of, next) => reply.addDirent(name, of, { next, room, plus }));
  files.use(node).requests += 1;
  if (plus) for (const id of added) files.remember(id);
  if (!write(reply.directory(unique))) {
    if (plus) for (const id of added) files.forget(id, 1);
  } else if (plus) files.openNext(node);
}

function getxattr(unique: number, node: number, bytes: Buffer): void {
  if (!xattrs) {
    write(reply.status(unique, ENOSYS));
    return;
  }
  const { size, name } = decodeGetxattr(bytes);
  const cid = name === CID_XATTR ? files.cid(node) : undefined;
  if (cid === undefined) write(reply.status(unique, ENODATA));
  else writeXattr(unique, Buffer.from(cid), size);
}

function listxattr(unique: number, node: number, bytes: Buffer): void {
  if (!xattrs) {
    write(reply.status(unique, ENOSYS));
    return;
  }
  const { size } = decodeListxattr(bytes);
  writeXattr(unique, Buffer.from(files.cid(node) === undefined ? '' : `${CID_XATTR}\0`), size);
}

function writeXattr(unique: number, value: Buffer, size: number): void {
  if (size === 0) write(reply.xattrSize(unique, value.length));
  else if (size < value.length) write(reply.status(unique, ERANGE));
  else write(reply.bytes(unique, value));
}

function interrupt(unique: number): void {
  const interrupted = waiting.get(unique);
  if (!interrupted) return;
  waiting.delete(unique);
  send({ type: 'interrupted', request: unique });
  end(unique, decodeHeader(interrupted.bytes).node, EINTR);
}

function takeMessages(): void {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
    const message = next.message as ToServer;
    if (message.type === 'stop') {
      stopped = true;
      continue;
    }
    if (message.type === 'report') {
      send({ type: 'report', id: message.id, report: report() });
      continue;
    }
    const request = waiting.get(message.request);
    if (!request) continue;
    const { bytes, origin } = request;
    waiting.delete(message.request);
    if (message.type === 'failed') end(message.request, decodeHeader(bytes).node, EIO);
    else {
      for (const { link, bytes: block } of message.blocks) blocks.keep(link, block);
      if (message.found) origin?.take(message.found);
      handle(bytes, true);
    }
  }
}

function report() {
  return { uses: files.takeUses(), nodes: files.nodes(), requests: counts };
}

function isGone(error: unknown): boolean {
  return errnoOf(error) === 'ENODEV' || errnoOf(error) === 'EBADF';
}

function serve(): void {
  const buffer = Buffer.allocUnsafeSlow(REQUEST_BYTES);
  while (!stopped) {
    let length: number;
    try {
      length = fs.readSync(device, buffer, 0, REQUEST_BYTES, null);
    } catch (error) {
      // Unmounted. The others mean that there is nothing to be read after all.
      if (isGone(error)) return;
      const code = errnoOf(error);
      // Somebody wants it to look.
      if (code === 'EINTR') takeMessages();
      if (code === 'EINTR' || code === 'EAGAIN' || code === 'ENOENT') continue;
      throw error;
    }
    if (length === 0) return;
    handle(buffer.subarray(0, length));
  }
}

let failure: unknown;
try {
  if (table?.goOn) goOn();
  serve();
} catch (error) {
  if (!isGone(error)) failure = error;
}
await store.close();
memory?.close();
send({ type: 'ended', ...(failure === undefined ? {} : { error: failure }) });
push?.close();
