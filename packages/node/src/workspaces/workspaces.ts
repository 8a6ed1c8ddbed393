import { mkdir, rename, rm } from 'node:fs/promises';
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
  readDirectory,
  readNode,
  setRef,
  statCacheFile,
  thinHistory,
} from '@lazytree/core';
import { type FetchChain, provideImage } from '../fetch/fetch-chain.js';
import { mountAt, readMountInfo } from '../fuse/device/mount-info.js';
import { detachStale } from '../mounts/base-mount.js';
import { detach } from '../mounts/detach.js';
import type { MountLog, MountTable, MountUse } from '../mounts/mount-table.js';
import { canonicalTarget, prepareTarget, removeTarget } from '../mounts/target.js';
import { syncDirectory } from '../state-file.js';
import { mountOverlay } from './overlay-mount.js';
import { type KeepPolicy, selectKept } from './thinning.js';
import {
  layerOf,
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
  autosave?: { interval: number; keep: KeepPolicy } | undefined;
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
  /** Of the tree that it lies over. */
  size: number;
  files: number;
  use: MountUse;
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
  /** @throws LazytreeError USAGE when a path is where a workspace is: it is not to be unmounted like others */
  refuseTarget(path: string): Promise<void>;
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
  log: MountLog;
}

interface LiveWorkspace {
  record: WorkspaceRecord;
  state: 'mounted' | 'failed';
  timer?: NodeJS.Timeout;
  /** Operations on one workspace follow one another. */
  turn: Promise<unknown>;
  release(): Promise<void>;
}

const TRASH = '.trash';
const AUTOSAVE = 'autosave';

export function createWorkspaces({ home, store, fetch, mounts, log }: WorkspacesOptions): Workspaces {
  const live = new Map<string, LiveWorkspace>();
  const creating = new Set<string>();

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
      const lower = await mounts.lowerDirectory(record.base);
      await mountOverlay({ lower, layer: layerOf(home, record), target: record.target });
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
      void autosave(workspace).finally(() => schedule(workspace));
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
      over: { base: record.base, source: fetch, xattrs: 'trusted' },
      preserve: await hasMetadata(record.base),
      ignoreFiles: record.ignoreFiles,
      statCache: statCacheFile(store.directory, 'workspace', upper),
      ...(signal ? { signal } : {}),
      ...(onProgress ? { onProgress } : {}),
      ...(onWarning ? { onWarning } : {}),
    });
  }

  /** What is saved over a tree has metadata if the tree has. */
  async function hasMetadata(base: Link): Promise<boolean> {
    for await (const { metadata } of readDirectory(fetch, base)) return metadata !== undefined;
    return false;
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

  async function replace(workspace: LiveWorkspace, record: WorkspaceRecord): Promise<void> {
    await writeWorkspace(home, record);
    workspace.record = record;
  }

  async function toTrash(path: string): Promise<void> {
    const trash = join(workspacesDirectory(home), TRASH);
    await mkdir(trash, { recursive: true });
    await rename(path, join(trash, `${Date.now()}-${process.pid}-${Math.random().toString(36).slice(2)}`));
    await syncDirectory(workspacesDirectory(home));
    emptyTrash();
  }

  function emptyTrash(): void {
    const trash = join(workspacesDirectory(home), TRASH);
    emptying = emptying
      .then(() => rm(trash, { recursive: true, force: true }))
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
      try {
        const target = await canonicalTarget(path);
        const madeTarget = await prepareTarget(target);
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
        undo.push(() => rm(workspaceDirectory(home, name), { recursive: true, force: true }));
        const workspace = await attach(record);
        undo.push(() => workspace.release());
        undo.push(() => detach(target, { lazy: true }));
        if (!ref) await setRef(store, { name, root: base, source: tree, message: 'workspace created' });
        await writeWorkspace(home, record);
        await syncDirectory(workspacesDirectory(home));
        live.set(name, workspace);
        schedule(workspace);
        undo = [];
        return record;
      } finally {
        creating.delete(name);
        for (const step of undo.reverse()) await step();
      }
    },

    async list() {
      const mounted = await readMountInfo();
      return Promise.all(
        [...live.values()].map(async ({ record, state }): Promise<WorkspaceStatus> => {
          const seen = mountAt(mounted, record.target)?.type === 'overlay';
          const use = await mounts.use(record.base, 'lower');
          const { size, files } = await readNode(fetch, record.base);
          return { ...record, state: state === 'mounted' && !seen ? 'unmounted' : state, size, files, use };
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
        await save(workspace, {
          message: `before restoring ${tree}`,
          automatic: true,
          ...(signal ? { signal } : {}),
        });
        const { record: old } = workspace;
        const record = { ...old, base, image, saved: base, layer: old.layer + 1 };
        await detach(old.target, { lazy: false });
        let next: LiveWorkspace;
        try {
          next = await attach(record);
        } catch (error) {
          const back = await attach(old);
          live.set(name, { ...back, turn: workspace.turn });
          throw error;
        }
        await writeWorkspace(home, record);
        await workspace.release();
        Object.assign(workspace, { record, state: 'mounted', release: next.release });
        await setRef(store, { name, root: base, source: tree, message: `restored from ${tree}` });
        await toTrash(join(workspaceDirectory(home, name), 'layers', String(old.layer)));
        return record;
      }),

    remove: (name, { discard, signal }) =>
      inTurn(name, async (workspace) => {
        const { record } = workspace;
        const saved = discard
          ? undefined
          : await save(workspace, {
              message: 'before removal',
              automatic: true,
              ...(signal ? { signal } : {}),
            });
        await detach(record.target, { lazy: false });
        clearTimeout(workspace.timer);
        live.delete(name);
        await toTrash(workspaceDirectory(home, name));
        await workspace.release();
        if (record.madeTarget) await removeTarget(record.target);
        return saved;
      }),

    async restoreAll() {
      emptyTrash();
      for (const record of await readWorkspaces(home)) {
        try {
          await detachStale(record.target);
          live.set(record.name, await attach(record));
        } catch (error) {
          live.set(record.name, { record, state: 'failed', turn: Promise.resolve(), async release() {} });
          log.error({ workspace: record.name, error: (error as Error).message }, 'not mounted again');
        }
        schedule(get(record.name));
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
    count: () => live.size,

    async close() {
      for (const [name, workspace] of live) {
        clearTimeout(workspace.timer);
        await workspace.turn;
        if (workspace.state === 'mounted') await detach(workspace.record.target, { lazy: true });
        await workspace.release();
        live.delete(name);
      }
      await emptying;
    },
  };
  return workspaces;
}
