import fs from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { constants } from 'node:os';
import { dirname } from 'node:path';
import { MessageChannel, type Transferable, Worker } from 'node:worker_threads';
import {
  type DirectoryEntry,
  errnoOf,
  type FileEntry,
  LazytreeError,
  type Link,
  type OriginEntry,
} from '@lazytree/core';
import { interruptThread } from '../device/interrupt-thread.js';
import { createReplyWriter } from '../protocol/reply.js';
import { AREA_BYTES, AREA_COUNT } from '../tree/node-table.js';
import type { View } from '../tree/tree-file-system.js';
import { allocateGiven } from './given.js';
import type { FromServer, PushData, ServeData, ServerReport, ToServer } from './messages.js';

/** Content that a mount needs and the store does not have. */
export interface FetchRequest {
  /** Text forms, for people. The root is empty where it is not known. */
  root: string;
  path: string;
  links: readonly Link[];
  /** Whether the store has the blocks, damaged. */
  corrupt: boolean;
  /** Aborted when whoever reads gives up. */
  signal: AbortSignal;
}

/** An origin that somebody looks into. Root and path as in a {@link FetchRequest}. */
export interface OriginRequest extends Pick<FetchRequest, 'root' | 'path' | 'signal'> {
  entry: OriginEntry;
}

/** Why a request got no better answer than EIO; root and path as in a {@link FetchRequest}. */
export interface ServeFailure {
  root: string;
  path: string;
  /** What should have been resolved, if it was that. */
  origin?: string;
  error: unknown;
}

/** <linux/magic.h> */
const FUSE_SUPER_MAGIC = 0x65735546;

/** Nobody waits for the thread that pushes: what is mounted is to be there first, and what is to be pushed waits for it. */
const PUSH_AFTER_MS = 50;
/** A serving thread that was interrupted when it was not waiting is interrupted again. */
const INTERRUPT_MS = 5;

export interface SessionOptions {
  /** The opened FUSE device. The session closes it. */
  device: number;
  /**
   * A file in memory ({@link TABLE_BYTES}) in which another process finds what it needs to go on when this one was
   * killed; `goOn`: this is that other process. The session closes it.
   */
  table?: { descriptor: number; goOn: boolean } | undefined;
  /** Where it is mounted. */
  target: string;
  storeDirectory: string;
  view: View;
  xattrs: boolean;
  /** Push small files into the page cache. */
  push: boolean;
  /** Brings blocks, verified. */
  fetch(request: FetchRequest): Promise<{ link: Link; bytes: Uint8Array }[]>;
  /** Finds out what an origin stands for. */
  resolveOrigin(request: OriginRequest): Promise<DirectoryEntry | FileEntry>;
  /** Told why a request was answered with EIO. */
  onFailure(failure: ServeFailure): void;
}

/** Bytes of a file for a table of nodes, of which hardly any are ever used. */
export const TABLE_BYTES = AREA_COUNT * AREA_BYTES;

/** One FUSE connection and the threads that serve it. */
export interface Session {
  /**
   * Resolves when the kernel has begun to talk; rejects when it cannot be talked to. Says whether another process could
   * go on: the kernel can send again what was not answered.
   */
  serving: Promise<{ resends: boolean }>;
  /** Resolves when it is unmounted; rejects when the server failed. */
  ended: Promise<void>;
  /** @throws LazytreeError when it has ended, or cannot be reached at its place any more */
  report(): Promise<ServerReport>;
  /** Ends it whoever uses it still: they get ENOTCONN. */
  stop(): void;
}

export function startSession(options: SessionOptions): Session {
  const { device, table, target, storeDirectory, view, xattrs, push, onFailure } = options;
  const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const channel = push ? new MessageChannel() : undefined;
  const given = allocateGiven();
  const server = takeServer();
  const data: ServeData = { device, storeDirectory, view, xattrs, owner, push: channel?.port1, given, table };
  server.postMessage(data, channel ? [channel.port1] : []);
  let pusher: Worker | undefined;
  let pushing: NodeJS.Timeout | undefined;
  const writer = createReplyWriter(64, owner);
  const serving = Promise.withResolvers<{ resends: boolean }>();
  const ended = Promise.withResolvers<void>();
  /** Whoever waits for neither learns of a failure from the other. */
  serving.promise.catch(() => undefined);
  ended.promise.catch(() => undefined);
  const fetching = new Map<number, AbortController>();
  const reports = new Map<number, PromiseWithResolvers<ServerReport>>();
  let nextReport = 0;
  let open = true;
  let thread = 0;
  let stopping: NodeJS.Timeout | undefined;

  server.on('message', (message: FromServer) => {
    switch (message.type) {
      case 'serving':
        thread = message.thread;
        pushing = setTimeout(startPushing, PUSH_AFTER_MS).unref();
        serving.resolve({ resends: message.resends });
        break;
      case 'missing':
        void bring(message);
        break;
      case 'interrupted':
        fetching.get(message.request)?.abort();
        break;
      case 'failure':
        onFailure(message);
        break;
      case 'report':
        reports.get(message.id)?.resolve(message.report);
        reports.delete(message.id);
        break;
      case 'ended':
        end(message.error);
    }
  });
  server.on('error', end);
  server.on('exit', () => end(undefined));

  function startPushing(): void {
    if (!channel || !open) return;
    pusher = startThread('push-thread', {
      workerData: { device, storeDirectory, lists: channel.port2, given } satisfies PushData,
      transferList: [channel.port2],
    });
    pusher.on('error', (error) => onFailure({ root: '', path: 'prefetch', error }));
  }

  function end(error: unknown): void {
    if (!open) return;
    open = false;
    clearInterval(stopping);
    clearTimeout(pushing);
    if (!pusher) channel?.port2.close();
    for (const controller of fetching.values()) controller.abort();
    for (const report of reports.values()) report.reject(new LazytreeError('FAILED', 'the mount has ended'));
    serving.reject(
      error ?? new LazytreeError('FAILED', 'it was unmounted before the kernel had begun to use it'),
    );
    // The threads have ended, or hold no request: nobody uses the number any more.
    void Promise.all([server.terminate(), pusher?.terminate()]).finally(() => {
      fs.closeSync(device);
      if (table) fs.closeSync(table.descriptor);
      if (error === undefined) ended.resolve();
      else ended.reject(error);
    });
  }

  async function bring({ request, ...missing }: FromServer & { type: 'missing' }): Promise<void> {
    const controller = new AbortController();
    fetching.set(request, controller);
    const { root, path, links, corrupt, origin: entry } = missing;
    const { signal } = controller;
    try {
      if (entry) {
        const found = await options.resolveOrigin({ root, path, entry, signal });
        tell({ type: 'fetched', request, blocks: [], found });
      } else {
        const blocks = await options.fetch({ root, path, links, corrupt, signal });
        tell({ type: 'fetched', request, blocks });
      }
    } catch (error) {
      if (signal.aborted) return;
      onFailure({ root, path, error, ...(entry && { origin: `${entry.driver}:${entry.reference}` }) });
      tell({ type: 'failed', request });
    } finally {
      fetching.delete(request);
    }
  }

  /**
   * Gives the serving thread a message, and wakes it up: it waits in a read of the device, so there has to be a
   * request. STATFS is one that the kernel never answers by itself. It is asked for from a thread of libuv's, so
   * that nothing but that thread waits if the server has died.
   */
  function tell(message: ToServer): void {
    if (!open) return;
    server.postMessage(message);
    fs.statfs(target, (_, found) => {
      // Unmounted lazily, or covered by another mount: the thread may never know, but whoever waits must.
      if (found?.type === FUSE_SUPER_MAGIC) return;
      if ('request' in message) giveUp(message.request);
      else if ('id' in message) giveUpReport(message.id);
    });
  }

  function giveUp(request: number): void {
    try {
      if (open) fs.writeSync(device, writer.status(request, constants.errno.EIO));
    } catch (error) {
      if (errnoOf(error) !== 'ENODEV' && errnoOf(error) !== 'ENOENT') throw error;
    }
  }

  function giveUpReport(id: number): void {
    reports.get(id)?.reject(new LazytreeError('FAILED', `the file system of '${target}' cannot be reached`));
    reports.delete(id);
  }

  return {
    serving: serving.promise,
    ended: ended.promise,
    async report() {
      await serving.promise;
      if (!open) throw new LazytreeError('FAILED', 'the mount has ended');
      const id = nextReport++;
      const wanted = Promise.withResolvers<ServerReport>();
      reports.set(id, wanted);
      tell({ type: 'report', id });
      return wanted.promise;
    },
    stop() {
      if (!open || stopping) return;
      server.postMessage({ type: 'stop' } satisfies ToServer);
      // No request reaches a connection that is mounted elsewhere only.
      stopping = setInterval(() => interruptThread(thread), INTERRUPT_MS);
    },
  };
}

/**
 * Little of what the threads make outlives a request. By default V8 would let tens of MB of garbage gather in each; the
 * old generation has room for the nodes of millions of files.
 */
const HEAP = { maxYoungGenerationSizeMb: 8, maxOldGenerationSizeMb: 1024 };

let spare: { worker: Worker; release(): void } | undefined;

/** Starts a thread for the next session, which takes longer than anything else that a session begins with. */
export function warmUp(): void {
  if (spare) return;
  const worker = startThread('serve-thread');
  const forget = () => {
    if (spare?.worker === worker) spare = undefined;
  };
  worker.on('error', forget);
  worker.on('exit', forget);
  worker.unref();
  spare = {
    worker,
    release() {
      worker.off('error', forget);
      worker.off('exit', forget);
      worker.ref();
    },
  };
}

function takeServer(): Worker {
  if (!spare) return startThread('serve-thread');
  const { worker, release } = spare;
  spare = undefined;
  release();
  return worker;
}

interface ThreadOptions {
  workerData?: unknown;
  transferList?: Transferable[];
}

function startThread(name: string, options: ThreadOptions = {}): Worker {
  const cache = getCompileCacheDir();
  return new Worker(new URL(`./${name}.js`, import.meta.url), {
    ...options,
    // A thread does not inherit where compiled code is kept. Below it, node has a directory for its version.
    env: cache === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: dirname(cache) },
    stdin: false,
    execArgv: [],
    resourceLimits: HEAP,
  });
}
