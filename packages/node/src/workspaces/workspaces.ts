import { chmod, mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import {
  checkRefName,
  formatLink,
  getRef,
  type ImportProgress,
  type ImportWarning,
  importTree,
  LazytreeError,
  type Link,
  type LocalStore,
  type Ref,
  setRef,
  statCacheFile,
  thinHistory,
  toFsPath,
} from '@lazytree/core';
import { type FetchChain, provideImage } from '../fetch/fetch-chain.js';
import { mountAt } from '../fuse/device/mount-info.js';
import type { Keeper } from '../keeper/keeper.js';
import { detachStale, removeRemains } from '../mounts/connection.js';
import { detach } from '../mounts/detach.js';
import type { MountLog } from '../mounts/mount-log.js';
import { type MountTable, type MountUse, totalsOf } from '../mounts/mount-table.js';
import { canonicalTarget, prepareTarget, removeTarget, takeTarget } from '../mounts/target.js';
import type { PushOptions } from '../remotes/push/push.js';
import { syncDirectory } from '../state-file.js';
import { chooseOverlayPlace } from './choose-overlay-place.js';
import { isOverlaid, makeLayer, mountOverlay } from './overlay-mount.js';
import type { Holder, OverlayPlace } from './overlay-place.js';
import { removeTree } from './remove-tree.js';
import { type KeepPolicy, selectKept } from './thinning.js';
import {
  type Autosave,
  layerOf,
  namesIn,
  readWorkspaces,
  type WorkspaceRecord,
  workspaceDirectory,
  workspacesDirectory,
  writeWorkspace,
} from './workspace-record.js';

export interface CreateOptions {
  name: string;
  base: Link;
  target: string;
  /** As the tree was asked for. */
  tree: string;
  image?: string | undefined;
  /** Whether saving follows `.lazytreeignore` files, as the import of the tree did. */
  ignoreFiles: boolean;
  autosave?: Autosave | undefined;
}

export interface SaveOptions {
  message?: string;
  /** Nobody has asked for it: without a change there is no snapshot. */
  automatic?: boolean;
  signal?: AbortSignal;
  onProgress?: (progress: ImportProgress) => void;
  onWarning?: (warning: ImportWarning) => void;
}

export interface Saved {
  root: Link;
  size: number;
  files: number;
  /** Whether anything differs from what was saved before. */
  changed: boolean;
  warnings: ImportWarning[];
  ref: Ref;
}

export interface WorkspaceStatus extends WorkspaceRecord {
  state: 'mounted' | 'unmounted' | 'failed';
  /** Why what was saved last is not at the remote of its autosave, when that has failed. */
  pushProblem: string | undefined;
  /** Of the tree that it lies over. */
  size: number;
  files: number;
  use: MountUse;
  /** Absent where everybody sees the workspace at its target. */
  holder: Holder | undefined;
}

/** Named writable forks of trees. Each is an overlay of its own layer over a root that all forks share. */
export interface Workspaces {
  create(options: CreateOptions): Promise<WorkspaceRecord>;
  list(): Promise<WorkspaceStatus[]>;
  /** Stores what has changed, and points the ref of the workspace's name to the new root. */
  save(name: string, options?: SaveOptions): Promise<Saved>;
  fork(
    name: string,
    options: { name: string; target: string; signal?: AbortSignal },
  ): Promise<WorkspaceRecord>;
  /** Makes the workspace equal to a tree. What was not saved is saved first. */
  restore(name: string, options: RestoreOptions): Promise<WorkspaceRecord>;
  /** Unmounts it and removes its layer. What was not saved is saved first, unless `discard`. */
  remove(name: string, options: { discard: boolean; signal?: AbortSignal }): Promise<Saved | undefined>;
  /** Mounts again what an earlier daemon had mounted, and removes what it was removing. */
  restoreAll(): Promise<void>;
  /** Mounts again all of them, when what they lie over has died and is there anew. */
  recover(): Promise<void>;
  /** @throws LazytreeError USAGE when a path is where a workspace is: it is not to be unmounted like others */
  refuseTarget(path: string): Promise<void>;
  /** @throws LazytreeError REFUSED when a path is in a workspace that not everybody sees, nor the daemon */
  refuseHidden(path: string): Promise<void>;
  /** The process whose namespaces the workspaces are in; absent where everybody sees them. */
  holder(): Promise<Holder | undefined>;
  count(): number;
  close(): Promise<void>;
}

export interface RestoreOptions {
  base: Link;
  tree: string;
  image?: string | undefined;
  signal?: AbortSignal;
}

export interface WorkspacesOptions {
  home: string;
  store: LocalStore;
  fetch: FetchChain;
  mounts: MountTable;
  keeper: Keeper;
  log: MountLog;
  /** Stores a tree at a remote. */
  push(remote: string, options: Omit<PushOptions, 'compression'>): Promise<unknown>;
}

interface LiveWorkspace {
  record: WorkspaceRecord;
  state: 'mounted' | 'failed';
  timer?: NodeJS.Timeout;
  /** Operations on one workspace follow one another. */
  turn: Promise<unknown>;
  /** Why what was saved is not at the remote. */
  pushProblem?: string | undefined;
  release(): Promise<void>;
}

const AUTOSAVE = 'autosave';

export function createWorkspaces(options: WorkspacesOptions): Workspaces {
  const { home, store, fetch, mounts, keeper, log, push } = options;
  const ended = new AbortController();
  const live = new Map<string, LiveWorkspace>();
  const creating = new Set<string>();
  const trash = join(workspacesDirectory(home), '.trash');
  let choosing: Promise<OverlayPlace> | undefined;

  function place(): Promise<OverlayPlace> {
    choosing ??= chooseOverlayPlace({
      keeper,
      onLost: () => log.error({}, 'the process that holds the workspaces has ended, and they with it'),
    });
    return choosing;
  }

  async function takeAway(target: string, { lazy }: { lazy: boolean }): Promise<void> {
    await detach(target, { lazy, by: (await place()).unmount });
  }

  /**
   * Goes on with the place of the overlays and with what they lie over, or with neither: those that are still alive must
   * not share their layers with new ones.
   */
  async function inherit(): Promise<void> {
    const { outlived, renew } = await place();
    const isThere = await mounts.inheritLower({ wanted: outlived });
    if (outlived && !isThere) await renew();
  }

  function get(name: string): LiveWorkspace {
    const found = live.get(name);
    if (found) return found;
    throw new LazytreeError('NOT_FOUND', `there is no workspace '${name}'`, {
      hint: '`lazytree workspace list` lists them',
    });
  }

  function inTurn<T>(name: string, task: (workspace: LiveWorkspace) => Promise<T>): Promise<T> {
    const workspace = get(name);
    const result = workspace.turn.then(() => {
      // It may have been removed while this waited.
      if (live.get(name) !== workspace) get(name);
      return task(workspace);
    });
    workspace.turn = result.catch(() => undefined);
    return result;
  }

  async function attach(record: WorkspaceRecord): Promise<LiveWorkspace> {
    const release = await provideImage(fetch, record.image);
    try {
      const { lower, inherited } = await mounts.lowerDirectory(record.base);
      const overlay = { lower, layer: layerOf(home, record), target: record.target, place: await place() };
      if (!(inherited && (await isOverlaid(overlay)))) {
        await detachStale(record.target);
        await mountOverlay(overlay);
      }
    } catch (error) {
      await release();
      throw error;
    }
    return { record, state: 'mounted', turn: Promise.resolve(), release };
  }

  function schedule(workspace: LiveWorkspace): void {
    const { record } = workspace;
    clearTimeout(workspace.timer);
    if (!record.autosave || live.get(record.name) !== workspace) return;
    workspace.timer = setTimeout(() => {
      void autosave(workspace)
        .then(() => pushSaved(workspace))
        .finally(() => schedule(workspace));
    }, record.autosave.interval).unref();
  }

  async function autosave(workspace: LiveWorkspace): Promise<void> {
    const { name, autosave: plan } = workspace.record;
    try {
      const { changed, root } = await saveNow(workspace, { message: AUTOSAVE, automatic: true });
      if (!changed || !plan) return;
      log.info({ workspace: name, root: formatLink(root) }, 'saved by itself');
      await thin(name, plan.keep);
    } catch (error) {
      log.error({ workspace: name, error: (error as Error).message }, 'could not be saved by itself');
    }
  }

  /** What was saved, by itself or by somebody. What cannot be pushed now is pushed the next time. */
  async function pushSaved(workspace: LiveWorkspace): Promise<void> {
    const { name, saved: root, pushed, autosave: plan } = workspace.record;
    if (plan?.remote === undefined || root === pushed || live.get(name) !== workspace) return;
    const { remote, keep } = plan;
    try {
      await push(remote, { root, name, message: AUTOSAVE, keep, signal: ended.signal });
      await inTurn(name, (current) => replace(current, { ...current.record, pushed: root }));
      workspace.pushProblem = undefined;
      log.info({ workspace: name, root: formatLink(root), remote }, 'pushed by itself');
    } catch (error) {
      if (ended.signal.aborted) return;
      workspace.pushProblem = (error as Error).message;
      log.error({ workspace: name, remote, error: workspace.pushProblem }, 'could not be pushed by itself');
    }
  }

  /** Of the automatic snapshots alone: what a person has saved stays. */
  async function thin(name: string, policy: KeepPolicy): Promise<void> {
    await thinHistory(store, name, (snapshots) => {
      const automatic = snapshots.filter(({ message }) => message === AUTOSAVE);
      const kept = selectKept(
        automatic.map(({ time }) => time),
        policy,
      );
      const dropped = new Set(automatic.filter((_, i) => !kept[i]));
      return snapshots.map((snapshot) => !dropped.has(snapshot));
    });
  }

  function saveNow(workspace: LiveWorkspace, options: SaveOptions): Promise<Saved> {
    return inTurn(workspace.record.name, (current) => save(current, options));
  }

  async function capture({ record }: LiveWorkspace, { signal, onProgress, onWarning }: SaveOptions) {
    const { upper } = layerOf(home, record);
    return importTree(store, upper, {
      over: { base: record.base, source: fetch, xattrs: (await place()).marks },
      ignoreFiles: record.ignoreFiles,
      statCache: statCacheFile(store.directory, 'workspace', upper),
      ...(signal ? { signal } : {}),
      ...(onProgress ? { onProgress } : {}),
      ...(onWarning ? { onWarning } : {}),
    });
  }

  async function save(workspace: LiveWorkspace, options: SaveOptions): Promise<Saved> {
    const { root, size, files, warnings } = await capture(workspace, options);
    const { record } = workspace;
    const before = getRef(store, record.name);
    const changed = root !== record.saved;
    const { message = '', automatic = false } = options;
    const isNews = changed || before?.root !== root || (message !== '' && !automatic);
    const ref =
      before && !isNews
        ? before
        : await setRef(store, { name: record.name, root, source: `workspace ${record.name}`, message });
    if (changed) await replace(workspace, { ...record, saved: root });
    return { root, size, files, changed, warnings, ref };
  }

  /** Saves what is about to be taken away, once nobody can write there any more. If it cannot be, it is back. */
  async function saveUnmounted(
    workspace: LiveWorkspace,
    message: string,
    signal: AbortSignal | undefined,
  ): Promise<Saved> {
    await takeAway(workspace.record.target, { lazy: false });
    try {
      return await save(workspace, { message, automatic: true, ...(signal ? { signal } : {}) });
    } catch (error) {
      await workspace.release();
      Object.assign(workspace, await attach(workspace.record), { turn: workspace.turn });
      throw error;
    }
  }

  async function replace(workspace: LiveWorkspace, record: WorkspaceRecord): Promise<void> {
    await writeWorkspace(home, record);
    workspace.record = record;
  }

  async function toTrash(path: string): Promise<void> {
    await mkdir(trash, { recursive: true });
    await rename(path, join(trash, `${Date.now()}-${process.pid}-${Math.random().toString(36).slice(2)}`));
    await syncDirectory(workspacesDirectory(home));
    emptyTrash();
  }

  function emptyTrash(): void {
    emptying = emptying
      .then(async () => {
        for (const name of await namesIn(trash)) await removeTree(join(trash, name));
      })
      .catch((error: unknown) =>
        log.error({ error: (error as Error).message }, 'the trash cannot be emptied'),
      );
  }
  let emptying: Promise<void> = Promise.resolve();

  const workspaces: Workspaces = {
    async create({ name, base, target: path, tree, image, ignoreFiles, autosave: plan }) {
      checkRefName(name);
      const ref = getRef(store, name);
      if (live.has(name) || creating.has(name)) {
        throw new LazytreeError('REFUSED', `there is a workspace '${name}' already`, {
          hint: 'choose another name, or remove it with `lazytree workspace remove`',
        });
      }
      if (ref && ref.root !== base) {
        throw new LazytreeError('REFUSED', `the ref '${name}' is of another tree`, {
          hint: `saving would move it: choose another name, or remove the ref with \`lazytree ref rm ${name}\``,
        });
      }
      creating.add(name);
      let undo: (() => Promise<void>)[] = [];
      let giveBack: (() => void) | undefined;
      try {
        const target = await canonicalTarget(path);
        giveBack = takeTarget(target);
        const madeTarget = await prepareTarget(target, await (await place()).mounts());
        if (madeTarget) undo.push(() => removeTarget(target));
        const record: WorkspaceRecord = {
          name,
          target,
          madeTarget,
          base,
          layer: 1,
          saved: base,
          image,
          ignoreFiles,
          autosave: plan,
          created: Date.now(),
        };
        // Of one that was being made or removed when its process died.
        await removeTree(workspaceDirectory(home, name));
        undo.push(() => removeTree(workspaceDirectory(home, name)));
        await makeLayer(layerOf(home, record));
        await writeWorkspace(home, record);
        await syncDirectory(workspacesDirectory(home));
        const workspace = await attach(record);
        undo.push(() => workspace.release());
        undo.push(() => takeAway(target, { lazy: true }));
        // What is not seen in there is not to be written there by mistake.
        if (madeTarget && (await place()).holder()) await chmod(toFsPath(target), 0o555);
        if (!ref) await setRef(store, { name, root: base, source: tree, message: 'workspace created' });
        live.set(name, workspace);
        schedule(workspace);
        undo = [];
        return record;
      } finally {
        creating.delete(name);
        try {
          for (const step of undo.reverse()) await step();
        } finally {
          giveBack?.();
        }
      }
    },

    async list() {
      const { mounts: mountsThere, holder } = await place();
      const mounted = await mountsThere();
      const useOf = await mounts.usesBelow();
      return Promise.all(
        [...live.values()].map(async ({ record, state, pushProblem }): Promise<WorkspaceStatus> => {
          const seen = mountAt(mounted, record.target)?.type === 'overlay';
          const use = useOf(record.base);
          const { size, files } = await totalsOf(fetch, record.base);
          const now = state === 'mounted' && !seen ? 'unmounted' : state;
          return { ...record, state: now, size, files, use, holder: holder(), pushProblem };
        }),
      );
    },

    save: (name, options = {}) => inTurn(name, (workspace) => save(workspace, options)),

    async fork(name, { name: newName, target, signal }) {
      const { root } = await inTurn(name, (workspace) => capture(workspace, signal ? { signal } : {}));
      const { image, ignoreFiles, autosave: plan } = get(name).record;
      const like = { image, ignoreFiles, autosave: plan };
      return workspaces.create({ name: newName, base: root, target, tree: name, ...like });
    },

    restore: (name, { base, tree, image, signal }) =>
      inTurn(name, async (workspace) => {
        await saveUnmounted(workspace, `before restoring ${tree}`, signal);
        const { record: old } = workspace;
        const record = { ...old, base, image, saved: base, layer: old.layer + 1 };
        await workspace.release();
        try {
          await makeLayer(layerOf(home, record));
          await writeWorkspace(home, record);
          Object.assign(workspace, await attach(record), { turn: workspace.turn });
        } catch (error) {
          await writeWorkspace(home, old);
          Object.assign(workspace, await attach(old), { turn: workspace.turn });
          throw error;
        }
        await setRef(store, { name, root: base, source: tree, message: `restored from ${tree}` });
        await toTrash(join(workspaceDirectory(home, name), 'layers', String(old.layer)));
        return record;
      }),

    remove: (name, { discard, signal }) =>
      inTurn(name, async (workspace) => {
        const { record } = workspace;
        const saved = discard ? undefined : await saveUnmounted(workspace, 'before removal', signal);
        if (discard) await takeAway(record.target, { lazy: false });
        clearTimeout(workspace.timer);
        live.delete(name);
        await toTrash(workspaceDirectory(home, name));
        await workspace.release();
        if (record.madeTarget) await removeTarget(record.target);
        return saved;
      }),

    async restoreAll() {
      emptyTrash();
      const records = await readWorkspaces(home);
      if (records.length > 0) {
        // Each of them will say what is wrong.
        await inherit().catch((error: Error) => log.error({ error: error.message }, 'nothing to go on with'));
      }
      for (const record of records) {
        try {
          live.set(record.name, await attach(record));
        } catch (error) {
          live.set(record.name, { record, state: 'failed', turn: Promise.resolve(), async release() {} });
          await removeRemains(record.target, log);
          log.error({ workspace: record.name, error: (error as Error).message }, 'not mounted again');
        }
        schedule(get(record.name));
      }
    },

    async recover() {
      await (await place()).renew();
      for (const [name, workspace] of live) {
        await inTurn(name, async ({ record, release }) => {
          await takeAway(record.target, { lazy: true });
          await release();
          Object.assign(workspace, await attach(record), { turn: workspace.turn });
        }).catch((error: unknown) => {
          workspace.state = 'failed';
          log.error({ workspace: name, error: (error as Error).message }, 'not mounted again');
        });
      }
    },

    async refuseTarget(path) {
      const target = await canonicalTarget(path);
      for (const { record } of live.values()) {
        if (record.target !== target) continue;
        throw new LazytreeError('USAGE', `'${target}' is the workspace '${record.name}'`, {
          hint: `take it away with \`lazytree workspace remove ${record.name}\``,
        });
      }
    },
    async refuseHidden(path) {
      if (!(await place()).holder()) return;
      const target = await canonicalTarget(path).catch(() => path);
      for (const { record } of live.values()) {
        if (!`${target}/`.startsWith(`${record.target}/`)) continue;
        throw new LazytreeError(
          'REFUSED',
          `'${path}' is in the workspace '${record.name}', which the daemon cannot see`,
          {
            hint: `\`lazytree workspace save ${record.name}\` stores it, and what is in it is ${record.name}/…`,
          },
        );
      }
    },
    holder: async () => (await place()).holder(),
    count: () => live.size,

    async close() {
      ended.abort();
      for (const [name, workspace] of live) {
        clearTimeout(workspace.timer);
        await workspace.turn;
        if (workspace.state === 'mounted') await takeAway(workspace.record.target, { lazy: true });
        await workspace.release();
        live.delete(name);
      }
      await (await choosing)?.close();
      await emptying;
    },
  };
  return workspaces;
}
