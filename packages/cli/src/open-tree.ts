import { type BlockSource, type FileEntry, isMissing, LazytreeError } from '@lazytree/core';
import {
  type Elsewhere,
  findRefElsewhere,
  imageSpec,
  isImageSpec,
  type ResolvedTree,
  resolveTree,
} from '@lazytree/node';
import type { Context } from './command.js';

export interface OpenTree extends ResolvedTree {
  /** Lets gc have the tree before the command ends: for one that opens many. */
  release(): void;
}

/**
 * The tree that a command's argument names, here, at a peer or at a remote. An image needs no home. Until the command ends, no gc in
 * this process takes the tree away.
 *
 * @param onFetch called when the tree has been found, and its directories have to be fetched
 */
export async function openTree(context: Context, spec: string, onFetch?: () => void): Promise<OpenTree> {
  const { signal } = context;
  if (isImageSpec(spec)) {
    return { ...(await resolveTree(undefined, imageSpec(spec, context.path), { signal })), release() {} };
  }
  const home = await context.home({ create: false });
  const tree = await resolveTree(home, spec, { signal, elsewhere: await elsewhereOf(context, onFetch) });
  const lease = home.store.lease([tree.root]);
  return { ...tree, release: context.afterwards(() => lease.release()) };
}

async function elsewhereOf(context: Context, onFetch?: () => void): Promise<Elsewhere | undefined> {
  const network = await context.network();
  if (!network) return undefined;
  const { cluster, remotes, fetch } = network;
  const { signal } = context;
  return {
    source: fetch,
    findRef: (name, where) => findRefElsewhere(name, where, { cluster, remotes, signal }),
    async bringTree(root) {
      if (!fetch.isComplete(root)) onFetch?.();
      const unattached = await problemOf(remotes?.attach());
      let problem = await problemOf(fetch.bringTree(root, { signal }));
      // Peers may be on their way when the daemon has just begun.
      if (cluster && (isMissing(problem) || problem?.code === 'NETWORK')) {
        await cluster.ready(signal);
        problem = await problemOf(fetch.bringTree(root, { signal }));
      }
      if (problem) throw isMissing(problem) && unattached ? notAsked(problem, unattached) : problem;
      if (unattached) context.warn(unattached.message);
    },
  };
}

function problemOf(task: Promise<void> | undefined): Promise<LazytreeError | undefined> {
  return Promise.resolve(task).then(
    () => undefined,
    (error: LazytreeError) => error,
  );
}

/** Nobody who was asked has it, and a remote that may have it was not asked. */
function notAsked(missing: LazytreeError, why: LazytreeError): LazytreeError {
  const hint = why.hint === undefined ? {} : { hint: why.hint };
  return new LazytreeError('NETWORK', `${missing.message}; ${why.message}`, { cause: why, ...hint });
}

export interface ArrivingOptions {
  spec: string;
  tree: ResolvedTree;
  /** Whether all of it is wanted, and not only what is read. */
  all: boolean;
}

/** Reads a tree while its content is on its way. */
export async function whileArriving<T>(
  context: Context,
  { spec, tree, all }: ArrivingOptions,
  read: (store: BlockSource) => Promise<T>,
): Promise<T> {
  if (!(await mayBeElsewhere(context, spec)) || tree.entry.kind !== 'directory') return read(tree.store);
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const { store, ended } = context.host().arriving(tree.entry, { signal });
  try {
    const result = await read(store);
    if (all) await ended;
    return result;
  } catch (error) {
    const problem = await Promise.race([ended, undefined]);
    const noSpace = (problem as LazytreeError | undefined)?.code === 'NO_SPACE';
    // Read block by block, what is damaged here is replaced by what others have.
    if (!noSpace && (error as LazytreeError).code !== 'CORRUPT') throw error;
    if (noSpace) warnOfSpace(context, problem);
    return await read(tree.store);
  } finally {
    stop.abort();
    await ended;
  }
}

/** Files of a block or two are there as soon. */
const LARGE_BYTES = 1 << 20;

/** Where to read a file from, from its beginning to its end; a large one is brought as a whole meanwhile. */
export async function arrivingFile(
  context: Context,
  spec: string,
  { tree, entry }: { tree: ResolvedTree; entry: FileEntry },
): Promise<{ store: BlockSource; stop(): Promise<void> }> {
  const { store } = tree;
  if (entry.size < LARGE_BYTES || !(await mayBeElsewhere(context, spec))) return { store, async stop() {} };
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const arriving = context.host().arriving(entry, { signal });
  return {
    store: arriving.store,
    async stop() {
      stop.abort();
      await arriving.ended;
    },
  };
}

async function mayBeElsewhere(context: Context, spec: string): Promise<boolean> {
  return !isImageSpec(spec) && (await context.network()) !== undefined;
}

/** Without room to keep it, it is read from where it is. */
function warnOfSpace(context: Context, error: unknown): void {
  context.warn(`${(error as Error).message}: nothing is kept of what is read`);
}
