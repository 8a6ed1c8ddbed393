import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  addRecords,
  type BlockSource,
  createTreeWriter,
  type DirectoryEntry,
  type FileEntry,
  findProvenance,
  findReference,
  findResolution,
  fromSystemError,
  importTree,
  isFile,
  LazytreeError,
  type Lease,
  type Link,
  type LocalStore,
  layOver,
  OfflineError,
  type OriginEntry,
  type Provenance,
  type Resolved,
  readNode,
  recordProvenance,
  recordReference,
  recordResolution,
  recordResolved,
  resolutionKeys,
  rootEntry,
  statCacheFile,
} from '@lazytree/core';
import pLimit from 'p-limit';
import { isUnavailable } from '../fetch/block-unavailable.js';
import type { FetchChain } from '../fetch/fetch-chain.js';
import type { OriginContent, OriginContext, OriginDriver, OriginPin, OriginProgress } from './driver.js';
import { createDrivers, type Drivers } from './drivers.js';
import { formatOrigin, type Origin } from './origin.js';
import { createPromisedBlocks } from './promised-blocks.js';
import { createSharedTasks, SharedFailure, type TaskContext } from './shared-tasks.js';

/** Whoever wants an origin, as far as it matters to a driver. Kept in memory alone. */
export interface OriginCaller {
  environment: Readonly<Record<string, string | undefined>>;
  directory: string;
}

export interface OriginOptions {
  signal: AbortSignal;
  /** Default: the last one who named the tree that the entry is in, or else the process itself. */
  caller?: OriginCaller | undefined;
  onProgress?: ((progress: OriginProgress) => void) | undefined;
  /** Nobody waits for it yet: it gives way to what somebody waits for. */
  ahead?: boolean;
}

/** What an origin stands for. */
export interface ResolvedOrigin {
  entry: DirectoryEntry | FileEntry;
  /** With the integrity of the content. */
  origin: Origin & { integrity: string };
  /** How it has come here; unknown when nobody remembers. */
  provenance: Provenance | undefined;
}

/** Asks the peers what an origin stands for; nothing when nobody knows, or answers in time. */
export type AskPeers = (
  reference: string,
  integrity: string,
  signal: AbortSignal,
) => Promise<{ root: Link; peer: string } | undefined>;

export interface OriginsOptions {
  /** Of the home: its configuration may name drivers, and drivers keep caches in it. */
  home: string;
  store: LocalStore;
  /** Where nodes and content of what peers have resolved are read from; brings all nodes of a tree. */
  source?: (BlockSource & Pick<FetchChain, 'bringTree'>) | undefined;
  askPeers?: AskPeers | undefined;
  drivers?: Drivers;
  /**
   * Given, what entries of trees stand for can be read before it is written down that they do. Told when it could not be:
   * this process remembers it none the less.
   */
  onNotRecorded?: ((error: Error) => void) | undefined;
}

/** The origins of a home: what they stand for is found once, remembered, and shared. See docs/origins.md. */
export interface Origins {
  /** `driver:text` in its canonical form. @throws LazytreeError USAGE */
  parse(text: string, caller?: OriginCaller): Promise<Origin>;
  /**
   * What `driver:text` may mean in which a path may follow after a single slash, in the order in which it is tried.
   *
   * @throws LazytreeError USAGE for a driver that nobody knows
   */
  readings(text: string, caller?: OriginCaller): Promise<{ origin: string; path: string }[]>;
  /** What a reference stands for now; offline, what it stood for when it was last asked about. */
  pin(origin: Origin, options: OriginOptions): Promise<Origin>;
  /**
   * What an origin stands for, in the store or on its way there.
   *
   * @throws LazytreeError NOT_FOUND, REFUSED, CORRUPT, NETWORK (also for what is needed offline and not here)
   */
  resolve(origin: Origin, options: OriginOptions): Promise<ResolvedOrigin>;
  /** The same for an entry of a tree, with what is laid over it. */
  resolveEntry(entry: OriginEntry, options: OriginOptions): Promise<DirectoryEntry | FileEntry>;
  /** The tree, or file, that an entry of a tree is known to stand for, without asking anyone. */
  resolved(entry: OriginEntry): Link | undefined;
  /** Whether references of a driver mean nothing to other machines. */
  isLocal(driver: string, caller?: OriginCaller): Promise<boolean>;
  /** Whether an origin is a file or a directory; undefined when only fetching it can tell. */
  kindOf(origin: Origin, caller?: OriginCaller): Promise<'file' | 'directory' | undefined>;
  /**
   * Fetches from its origin what a peer has resolved, and nobody delivers now. Resolves to whether the block is here.
   *
   * @throws LazytreeError as `resolve`
   */
  rescue(link: Link, signal: AbortSignal): Promise<boolean>;
  /** What peers are told. */
  known(reference: string, integrity: string): Link | undefined;
  /** Remembers who named a tree, for those of its origins that nobody resolves until they are read. */
  remember(root: Link, caller: OriginCaller): void;
  /** The caller that was remembered for a tree. */
  callerOf(root: Link): OriginCaller | undefined;
  /** Resolves when all that was found is written down, or cannot be. */
  settled(): Promise<void>;
}

/** Fetches that are under way at a time; the rest wait for their turn. */
const FETCHES = 24;
/** What peers have of an origin comes whole up to this, as it does from the origin; of more, what is read. */
const WHOLE_BYTES = 8 << 20;
/** Callers that are remembered. */
const CALLERS = 256;

export function isOffline({ environment }: OriginCaller): boolean {
  const value = environment.LAZYTREE_OFFLINE;
  return value !== undefined && value !== '' && value !== '0';
}

/** What needs no network is there offline as well. */
function reachesAll(driver: OriginDriver, reference: string): boolean {
  return driver.needsNoNetwork?.(reference) ?? driver.local ?? false;
}

export function createOrigins(options: OriginsOptions): Origins {
  const { home, store, source = store, askPeers, drivers = createDrivers(), onNotRecorded } = options;
  /** What was found and is not written down, by reference and integrity. */
  const unrecorded = new Map<string, Unrecorded>();
  const itself: OriginCaller = { environment: process.env, directory: home };
  const limit = pLimit(FETCHES);
  const resolving = createSharedTasks<ResolvedOrigin>();
  const pinning = createSharedTasks<OriginPin>();
  const callers = new Map<Link, OriginCaller>();
  const promised = createPromisedBlocks(store);
  let latest: OriginCaller | undefined;

  const placesOf = ({ directory }: OriginCaller) => [directory, home];

  function driverOf(name: string, caller: OriginCaller): Promise<OriginDriver> {
    return drivers.get(name, placesOf(caller));
  }

  /** What is shared fails for whoever has begun it; whoever joined tries with what they have. */
  async function sharing<T>(run: () => Promise<{ value: T }>): Promise<T> {
    for (;;) {
      try {
        return (await run()).value;
      } catch (error) {
        if (!(error instanceof SharedFailure)) throw error;
        const cause = error.cause as LazytreeError;
        const isTheirs =
          cause.code === 'REFUSED' || cause.code === 'NOT_FOUND' || cause instanceof OfflineError;
        if (!isTheirs) throw cause;
      }
    }
  }

  async function pin(origin: Origin, given: OriginOptions): Promise<Origin> {
    const caller = given.caller ?? itself;
    const { driver: name, reference, integrity } = origin;
    const driver = await driverOf(name, caller);
    const key = `${name}:${reference}`;
    if (isOffline(caller) && !reachesAll(driver, reference)) return pinOffline(origin);
    const own = integrity === undefined ? { reference } : { reference, integrity };
    const found = await sharing(() =>
      pinning.join(`${key} ${integrity ?? ''} ${caller.directory}`, given, (task) =>
        driver.pin(own.reference, contextOf(name, caller, task, { bytes: 0, requests: 0 }, [])),
      ),
    );
    if (found.integrity !== undefined && found.reference !== reference) {
      await recordReference(store, key, { ...found, time: Date.now() });
    }
    return { driver: name, ...found };
  }

  function pinOffline(origin: Origin): Origin {
    if (origin.integrity !== undefined) return origin;
    const known = findReference(store, `${origin.driver}:${origin.reference}`);
    if (!known) return origin;
    const { reference, integrity } = known;
    return { driver: origin.driver, reference, ...(integrity === undefined ? {} : { integrity }) };
  }

  /** What somebody asks for by its name is written down before they are told. */
  async function resolve(origin: Origin, given: OriginOptions): Promise<ResolvedOrigin> {
    const found = await resolveReadable(origin, given);
    const { driver, reference, integrity } = found.origin;
    const late = unrecorded.get(keyOf(`${driver}:${reference}`, integrity));
    // Tried again, so that whoever is told of it now is told why.
    if (late && !(await late.written)) await late.write();
    return found;
  }

  async function resolveReadable(origin: Origin, given: OriginOptions): Promise<ResolvedOrigin> {
    const caller = given.caller ?? itself;
    const here = await lookUp(origin, given.signal);
    if (here) return here;
    const pinned = origin.integrity === undefined ? await pin(origin, given) : origin;
    const key = `${pinned.driver}:${pinned.reference} ${pinned.integrity ?? ''}`;
    return sharing(() => resolving.join(key, given, (task) => find(pinned, origin, caller, task)));
  }

  async function settled(): Promise<void> {
    await Promise.all([...unrecorded.values()].map(({ written }) => written));
  }

  async function find(
    pinned: Origin,
    asked: Origin,
    caller: OriginCaller,
    task: TaskContext,
  ): Promise<ResolvedOrigin> {
    const known = (await lookUp(pinned, task.signal)) ?? (await askOthers(pinned, caller, task.signal));
    if (known) return known;
    if (isOffline(caller) && !reachesAll(await driverOf(pinned.driver, caller), pinned.reference))
      throw offline(pinned, asked);
    return limit(() => fetch(pinned, asked, caller, task));
  }

  /** What was found before, if it is here still. */
  async function lookUp({ driver, reference, integrity }: Origin, signal: AbortSignal) {
    if (integrity === undefined) return undefined;
    const root = rootOf(`${driver}:${reference}`, integrity);
    if (root === undefined || !(await store.has(root, { signal }))) return undefined;
    return describe(root, { driver, reference, integrity });
  }

  function rootOf(reference: string, integrity: string): Link | undefined {
    return unrecorded.get(keyOf(reference, integrity))?.root ?? findResolution(store, reference, integrity);
  }

  async function describe(root: Link, origin: ResolvedOrigin['origin']): Promise<ResolvedOrigin> {
    const entry = (await rootEntry(source, root)) as DirectoryEntry | FileEntry;
    return { entry, origin, provenance: findProvenance(store, root, formatOrigin(origin)) };
  }

  /** A peer that has it saves the origin a request; of what is large, content comes when it is read. */
  async function askOthers(
    { driver, reference, integrity }: Origin,
    caller: OriginCaller,
    signal: AbortSignal,
  ) {
    if (!askPeers || integrity === undefined || isOffline(caller) || !('bringTree' in source))
      return undefined;
    const name = `${driver}:${reference}`;
    const said = await askPeers(name, integrity, signal);
    if (!said) return undefined;
    const { root, peer } = said;
    const lease = store.lease([root]);
    const bring = source.bringTree;
    try {
      await bring(root, { signal, have: [], readable: true, content: WHOLE_BYTES });
      const found = await describe(root, { driver, reference, integrity });
      const how: Provenance = {
        reference: name,
        integrity,
        from: 'peer',
        peer,
        time: Date.now(),
        bytes: 0,
        requests: 0,
        notes: [],
      };
      const kept = () => bring(root, { signal: NEVER });
      await record(root, { how, integrities: [integrity] }, kept);
      promised.add(root, { driver, reference, integrity });
      return { ...found, provenance: how };
    } catch (error) {
      signal.throwIfAborted();
      if (!isUnavailable(error) && (error as LazytreeError).code !== 'CORRUPT') throw error;
      return undefined;
    } finally {
      lease.release();
    }
  }

  /** Writes down what was found, now or when that can wait. */
  async function record(root: Link, resolved: Resolved, kept?: () => Promise<void>): Promise<void> {
    const { how, integrities } = resolved;
    const keys = [...integrities].map((integrity) => keyOf(how.reference, integrity));
    await recordAs(root, keys, async () => {
      await kept?.();
      await keep(root);
      await recordResolved(store, root, resolved);
    });
  }

  async function recordAs(root: Link, keys: readonly string[], record: () => Promise<void>): Promise<void> {
    if (!onNotRecorded) return record();
    const write = async () => {
      const lease = store.lease([root]);
      try {
        await record();
        for (const key of keys) unrecorded.delete(key);
      } finally {
        lease.release();
      }
    };
    const written = write().then(
      () => true,
      (error: Error) => {
        onNotRecorded(error);
        return false;
      },
    );
    for (const key of keys) unrecorded.set(key, { root, written, write });
  }

  /** Blocks are durable before what names them is written. */
  async function keep(root: Link): Promise<void> {
    store.keepRoot(root);
    await store.flush();
  }

  function contextOf(
    name: string,
    caller: OriginCaller,
    { signal, isAhead, onProgress }: TaskContext,
    cost: { bytes: number; requests: number },
    leases: Lease[],
  ): OriginContext {
    return {
      signal,
      isAhead,
      newTree: () => createTreeWriter(store, { signal, leases }),
      addRecords: (records) => addRecords(store, records),
      async importDirectory(path) {
        const { root, size, files, warnings } = await importTree(store, path, {
          home,
          signal,
          // That of `lazytree import` with the same options.
          statCache: statCacheFile(store.directory, 'import', path),
          onProgress: ({ bytes }) => onProgress({ doing: `reading ${path}`, bytes }),
        });
        const notes = warnings.map(({ path: where, message }) => `${where}: ${message}`);
        return { entry: { kind: 'directory', name: '', link: root, size, files }, notes };
      },
      async cacheDirectory() {
        const directory = join(home, 'origins', name);
        try {
          await mkdir(directory, { recursive: true, mode: 0o700 });
        } catch (error) {
          throw fromSystemError(error, `making ${directory}`);
        }
        return directory;
      },
      environment: caller.environment,
      directory: caller.directory,
      onProgress,
      onReceived(bytes, requests) {
        cost.bytes += bytes;
        cost.requests += requests;
      },
    };
  }

  async function fetch(
    pinned: Origin,
    asked: Origin,
    caller: OriginCaller,
    task: TaskContext,
  ): Promise<ResolvedOrigin> {
    task.signal.throwIfAborted();
    const { driver: name, ...pin } = pinned;
    const driver = await driverOf(name, caller);
    const cost = { bytes: 0, requests: 0 };
    const leases: Lease[] = [store.lease()];
    try {
      const content = await driver.fetch(pin, contextOf(name, caller, task, cost, leases));
      const { integrity, notes } = content;
      const root = checkedRoot(content, pinned);
      const reference = `${name}:${pin.reference}`;
      const how: Provenance = { reference, integrity, from: 'origin', time: Date.now(), ...cost, notes };
      await record(root, {
        how,
        integrities: new Set([integrity, pin.integrity ?? integrity]),
        references: {
          names: new Set([reference, `${name}:${asked.reference}`]),
          known: { reference: pin.reference, integrity, time: how.time },
        },
      });
      const origin = { driver: name, reference: pin.reference, integrity };
      return { ...(await describe(root, origin)), provenance: how };
    } finally {
      for (const lease of leases) lease.release();
    }
  }

  async function rescue(link: Link, signal: AbortSignal): Promise<boolean> {
    const caller = latest ?? itself;
    if (isOffline(caller)) return false;
    for (const origin of await promised.originsOf(link, signal)) {
      const key = `${origin.driver}:${origin.reference} ${origin.integrity}`;
      await sharing(() =>
        resolving.join(`${key} from its origin`, { signal }, (task) =>
          limit(() => fetch(origin, origin, caller, task)),
        ),
      );
      if (await store.has(link, { signal })) return true;
    }
    return false;
  }

  async function resolveEntry(entry: OriginEntry, given: OriginOptions): Promise<DirectoryEntry | FileEntry> {
    const { name, metadata, of, plus } = entry;
    const laid = await findLaid(entry, given.signal);
    const found = laid ?? (await resolveBelow(entry, given));
    if ((found.kind === 'directory') !== (of === 'directory')) {
      throw new LazytreeError(
        'CORRUPT',
        `${entry.driver}:${entry.reference} is a ${found.kind}, and the tree says it is a ${of}`,
      );
    }
    const result = plus && !laid ? await layPlus(entry, found as DirectoryEntry, given.signal) : found;
    return { ...result, name, ...(metadata && { metadata }) };
  }

  async function resolveBelow(entry: OriginEntry, given: OriginOptions) {
    const { driver, reference, integrity } = entry;
    const origin = { driver, reference, ...(integrity === undefined ? {} : { integrity }) };
    await refuseLocal(origin, given.caller ?? latest ?? itself);
    return (await resolveReadable(origin, { ...given, caller: given.caller ?? latest })).entry;
  }

  /** A tree, which may be a stranger's, is not given directories of this machine: who composes one resolves them. */
  async function refuseLocal({ driver: name, reference }: Origin, caller: OriginCaller): Promise<void> {
    if (!(await driverOf(name, caller)).local) return;
    throw new LazytreeError(
      'REFUSED',
      `a tree has an entry that stands for ${name}:${reference} of this machine`,
      {
        hint: `trees are not given what is here; \`lazytree import ${name}:${reference}\` makes it a tree of its own`,
      },
    );
  }

  async function findLaid(entry: OriginEntry, signal: AbortSignal): Promise<DirectoryEntry | undefined> {
    const { reference, laid } = resolutionKeys(entry);
    const root = laid === undefined ? undefined : rootOf(reference, laid);
    if (root === undefined || !(await store.has(root, { signal }))) return undefined;
    const { size, files } = await readNode(source, root, { signal });
    return { kind: 'directory', name: '', link: root, size, files };
  }

  async function layPlus(
    entry: OriginEntry,
    below: DirectoryEntry,
    signal: AbortSignal,
  ): Promise<DirectoryEntry> {
    const plus = entry.plus as Link;
    const lease = store.lease([below.link, plus]);
    try {
      const { size, files } = await readNode(source, plus, { signal });
      const over: DirectoryEntry = { kind: 'directory', name: '', link: plus, size, files };
      const made = await layOver(source, below, over, {
        signal,
        async putNodes(nodes) {
          for (const node of nodes) await store.put(node, { signal });
        },
      });
      const { reference, laid } = resolutionKeys(entry);
      if (laid === undefined || entry.integrity === undefined) return made;
      const { integrity } = entry;
      const underneath = unrecorded.get(keyOf(reference, integrity));
      await recordAs(made.link, [keyOf(reference, laid)], async () => {
        // How that which it is laid over has come is known then.
        await underneath?.written;
        const how = findProvenance(store, below.link, reference);
        const base = how ?? { reference, time: Date.now(), bytes: 0, requests: 0, notes: [] };
        await keep(made.link);
        if (made.link !== below.link)
          await recordProvenance(store, made.link, { ...base, integrity, from: how?.from ?? 'laid' });
        await recordResolution(store, { reference, integrity: laid, root: made.link });
      });
      return made;
    } finally {
      lease.release();
    }
  }

  async function understood(text: string, caller: OriginCaller) {
    const colon = text.indexOf(':');
    const name = text.slice(0, colon);
    return { name, driver: await driverOf(name, caller), rest: text.slice(colon + 1) };
  }

  return {
    async parse(text, caller = itself) {
      const { name, driver, rest } = await understood(text, caller);
      return { driver: name, reference: driver.parse(rest, { directory: caller.directory }) };
    },
    async readings(text, caller = itself) {
      const { name, driver, rest } = await understood(text, caller);
      const found = driver.readings?.(rest, { directory: caller.directory }) ?? [
        { reference: rest, path: '' },
      ];
      return found.map(({ reference, path }) => ({ origin: `${name}:${reference}`, path }));
    },
    pin,
    resolve,
    resolveEntry,
    rescue,
    resolved(entry) {
      const { reference, integrity, laid } = resolutionKeys(entry);
      const key = laid ?? integrity;
      const root = key === undefined ? undefined : rootOf(reference, key);
      return root !== undefined && store.locate(root) ? root : undefined;
    },
    isLocal: async (name, caller = itself) => (await driverOf(name, caller)).local ?? false,
    async kindOf({ driver: name, reference }, caller = itself) {
      const driver = await driverOf(name, caller);
      if (!driver.isFile) return 'directory';
      const isFile = driver.isFile(reference);
      return isFile === undefined ? undefined : isFile ? 'file' : 'directory';
    },
    known(reference, integrity) {
      const root = rootOf(reference, integrity);
      return root !== undefined && store.locate(root) ? root : undefined;
    },
    remember(root, caller) {
      // What one has wanted to be done without the network is not for others to be done so.
      if (!isOffline(caller)) latest = caller;
      callers.delete(root);
      callers.set(root, caller);
      for (const oldest of callers.keys()) {
        if (callers.size <= CALLERS) break;
        callers.delete(oldest);
      }
    },
    callerOf: (root) => callers.get(root),
    settled,
  };
}

/** A root that an origin stands for, though nothing says so that would outlive this process. */
interface Unrecorded {
  root: Link;
  /** Whether it is written down; resolves when that was tried. */
  written: Promise<boolean>;
  /** Tries it. */
  write(): Promise<void>;
}

function keyOf(reference: string, integrity: string): string {
  return `${reference} ${integrity}`;
}

function checkedRoot({ entry, integrity }: OriginContent, pinned: Origin): Link {
  if (entry.kind !== 'directory' && !isFile(entry)) {
    throw new LazytreeError('FAILED', `the driver of '${pinned.driver}:' made what is no file or directory`);
  }
  if (integrity === '') {
    throw new LazytreeError('FAILED', `the driver of '${pinned.driver}:' does not say what it fetched`);
  }
  return entry.link;
}

function offline({ driver, reference, integrity }: Origin, asked: Origin): OfflineError {
  const name = `${driver}:${reference}`;
  const what = reference === asked.reference ? name : `${name} (for ${asked.reference})`;
  const which = integrity === undefined ? '' : `, ${integrity}`;
  return new OfflineError([name], `offline, and ${what} is not here${which}`);
}

/** A source of blocks that knows the origins of a home. */
export function withOrigins<S extends BlockSource>(
  store: S,
  origins: Origins,
  given: Omit<OriginOptions, 'signal'> = {},
): S {
  return {
    ...store,
    resolveOrigin: (entry, { signal = NEVER } = {}) => origins.resolveEntry(entry, { ...given, signal }),
  };
}

const NEVER = new AbortController().signal;
