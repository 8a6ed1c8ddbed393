import {
  type BlockSource,
  type Entry,
  type FileEntry,
  findImport,
  findProvenance,
  findReference,
  isMissing,
  LazytreeError,
  type Link,
  type LocalStore,
  recordImport,
  recordProvenance,
  resolveEntry,
  resolvePath,
} from '@lazytree/core';
import {
  type Elsewhere,
  findRefElsewhere,
  imageSpec,
  isClusterHome,
  isImageSpec,
  mayBeOrigin,
  NotHereError,
  type ResolvedTree,
  resolveTree,
  splitOrigin,
} from '@lazytree/node';
import {
  formatOrigin,
  isOffline,
  type Origin,
  type OriginCaller,
  type Origins,
  type ResolvedOrigin,
  withOrigins,
} from '@lazytree/node/origins';
import type { Context } from './command.js';

export interface OpenTreeOptions {
  /** Show an entry that is an origin as that. Default: what it stands for. */
  keepOrigin?: boolean;
  /** Do not walk the path: the entry is that of the root. */
  rootOnly?: boolean;
  /** Called when the tree has been found, or is to be made of an origin, and its directories have to be fetched. */
  onFetch?: () => void;
  /** It is enough that its directories can be read, be they in the store or on their way there. */
  readable?: boolean;
  /** See {@link ResolveOptions.mayLack}. */
  mayLack?: boolean;
}

export interface OpenTree extends ResolvedTree {
  /** Lets gc have the tree before the command ends: for one that opens many. */
  release(): void;
}

/**
 * The tree that a command's argument names, here, at a peer or at a remote. An image needs no home. Until the command ends, no gc in
 * this process takes the tree away.
 */
export async function openTree(
  context: Context,
  spec: string,
  { keepOrigin = false, rootOnly = false, onFetch, readable = false, mayLack = false }: OpenTreeOptions = {},
): Promise<OpenTree> {
  const { signal } = context;
  if (mayBeOrigin(spec)) return openOrigin(context, spec, { keepOrigin, rootOnly, onFetch });
  if (isImageSpec(spec)) {
    return { ...(await resolveTree(undefined, imageSpec(spec, context.path), { signal })), release() {} };
  }
  const home = await context.home({ create: false });
  const origins = await context.origins();
  const caller = context.originCaller();
  const tree = await resolveTree(home, spec, {
    signal,
    elsewhere: await elsewhereOf(context, { onFetch, readable }),
    withOrigins: (source) => withOrigins(source, origins, { caller }),
    rootOnly,
    mayLack,
  });
  const lease = home.store.lease([tree.root]);
  const release = context.afterwards(() => lease.release());
  return { ...tree, entry: await reached(tree.store, tree.entry, { keepOrigin, signal }), release };
}

/** Where an entry is an origin, what it stands for. */
async function reached(
  store: BlockSource,
  entry: Entry,
  { keepOrigin, signal }: OpenTreeOptions & { signal: AbortSignal },
): Promise<Entry> {
  return keepOrigin ? entry : resolveEntry(store, entry, entry.name, { signal });
}

/** What an origin stands for now: known from before, or from a peer, or fetched. */
async function openOrigin(
  context: Context,
  spec: string,
  { keepOrigin = false, rootOnly = false, onFetch }: OpenTreeOptions,
): Promise<OpenTree> {
  const { signal } = context;
  const caller = context.originCaller();
  const origins = await context.origins();
  const progress = await context.progress('fetch');
  const { store: own, directory } = await context.home({ create: true });
  const lease = own.lease();
  const release = context.afterwards(() => lease.release());
  try {
    const { path, resolved } = await understood(async (text) => {
      const wanted = await origins.parse(text, caller);
      if (!context.hasHost && isClusterHome(directory) && !isOffline(caller))
        await wantPeers(origins, wanted, own);
      onFetch?.();
      return origins.resolve(wanted, {
        signal,
        caller,
        onProgress: ({ bytes, totalBytes }) =>
          progress.update({ files: 0, bytes, ...(totalBytes && { totalBytes }) }),
      });
    });
    const { entry: found, origin, provenance } = resolved;
    for (const note of provenance?.notes ?? []) context.warn(note);
    const { link: root } = found;
    await recordImport(own, root, formatOrigin(origin));
    const held = own.lease([root]);
    context.afterwards(() => held.release());
    const network = await context.network();
    const store = withOrigins(network?.fetch ?? own, origins, { caller });
    const entry = path === '' || rootOnly ? found : await resolvePath(store, root, path, { signal });
    const at = await reached(store, entry, { keepOrigin, signal });
    return { store, root, path, entry: at, release, async close() {} };
  } finally {
    progress.stop();
  }

  /** What the text stands for: as it is, or with a path in it, which may follow after one slash or after two. */
  async function understood(
    resolve: (text: string) => Promise<ResolvedOrigin>,
  ): Promise<{ path: string; resolved: ResolvedOrigin }> {
    const split = splitOrigin(spec);
    const readings = split.path === '' ? await origins.readings(split.origin, caller) : [split];
    let first: unknown;
    for (const { origin, path } of readings) {
      try {
        return { path: path.replace(/^\/+|\/+$/g, ''), resolved: await resolve(origin) };
      } catch (error) {
        signal.throwIfAborted();
        first ??= error;
        if (!mayMeanAnother(error, caller)) break;
      }
    }
    throw first;
  }
}

/** Whether a text that stands for nothing may stand for something in something else. */
function mayMeanAnother(error: unknown, caller: OriginCaller): boolean {
  if (error instanceof NotHereError) return false;
  const { code } = error as LazytreeError;
  return code === 'USAGE' || code === 'NOT_FOUND' || (code === 'NETWORK' && isOffline(caller));
}

/** A member of a cluster asks its peers first, which its daemon does. @throws NotHereError for what is not here */
async function wantPeers(
  origins: Origins,
  { driver, reference, integrity }: Origin,
  store: LocalStore,
): Promise<void> {
  const name = formatOrigin({ driver, reference });
  const known = integrity === undefined ? findReference(store, name) : { reference, integrity };
  const isHere =
    known?.integrity !== undefined && origins.known(formatOrigin({ driver, ...known }), known.integrity);
  if (!isHere) throw new NotHereError(`${name} is not here, and the peers are asked by a daemon`);
}

async function elsewhereOf(
  context: Context,
  { onFetch, readable }: { onFetch: (() => void) | undefined; readable: boolean },
): Promise<Elsewhere | undefined> {
  const network = await context.network();
  if (!network) return undefined;
  const { cluster, remotes, fetch } = network;
  const { signal } = context;
  return {
    source: fetch,
    async findRef(name, where) {
      const root = await findRefElsewhere(name, where, { cluster, remotes, signal });
      await noteSource(context, root, { name, where });
      return root;
    },
    async bringTree(root) {
      if (!fetch.isComplete(root)) onFetch?.();
      const unattached = await problemOf(remotes?.attach());
      let problem = await problemOf(fetch.bringTree(root, { signal, readable }));
      // Peers may be on their way when the daemon has just begun.
      if (cluster && (isMissing(problem) || problem?.code === 'NETWORK')) {
        await cluster.ready(signal);
        problem = await problemOf(fetch.bringTree(root, { signal, readable }));
      }
      if (problem) throw isMissing(problem) && unattached ? notAsked(problem, unattached) : problem;
      if (unattached) context.warn(unattached.message);
    },
  };
}

/** For `why`: it was not made here. What is known already says more. */
async function noteSource(
  context: Context,
  root: Link,
  { name, where }: { name: string; where: string | undefined },
): Promise<void> {
  const { store } = await context.home({ create: false });
  if (findImport(store, root) || findProvenance(store, root)) return;
  await recordProvenance(store, root, {
    reference: where === undefined ? name : `${name}@${where}`,
    integrity: '',
    from: 'peer',
    peer: where ?? 'whoever publishes it',
    time: Date.now(),
    bytes: 0,
    requests: 0,
    notes: [],
  });
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
  const { store, ended, problem } = context.host().arriving(tree.entry, { signal });
  try {
    const { resolveOrigin } = tree.store;
    const result = await read({ ...store, ...(resolveOrigin && { resolveOrigin }) });
    if (all) await ended;
    return result;
  } catch (error) {
    const noSpace = (problem() as LazytreeError | undefined)?.code === 'NO_SPACE';
    // Read block by block, what is damaged here is replaced by what others have.
    if (!noSpace && (error as LazytreeError).code !== 'CORRUPT') throw error;
    if (noSpace) warnOfSpace(context, problem());
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
