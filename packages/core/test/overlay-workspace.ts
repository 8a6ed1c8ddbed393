import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import {
  type BlockStore,
  createMemoryStore,
  exportTree,
  formatLink,
  type ImportOptions,
  type ImportResult,
  importTree,
  type Link,
} from '@lazytree/core';

/**
 * A workspace as in docs/workspaces.md, over an export of its base. Nothing of vitest in here: it also runs in
 * processes of other users and in other namespaces.
 */
export interface Workspace {
  readonly store: BlockStore;
  readonly upper: string;
  readonly mount: string;
  base(): Link;
  /** A path in the mount. */
  at(path: string): string;
  save(options?: ImportOptions): Promise<ImportResult>;
  /** The root of what the mount shows, by a plain import. */
  plain(): Promise<Link>;
  remount(): void;
  /** Makes what was saved the base, under an empty upper layer. */
  restack(): Promise<void>;
  close(): void;
}

export interface WorkspaceOptions {
  /** An empty directory, on a file system that can hold an upper layer. */
  directory: string;
  xattrs?: 'trusted' | 'user';
  /** For the import of the base and all others. */
  imports?: ImportOptions;
  /** More options of the mount. */
  mountOptions?: string;
  store?: BlockStore;
}

const MOUNT_OPTIONS = { trusted: 'redirect_dir=on,metacopy=on', user: 'userxattr' };

/** A workspace over what `build` makes in an empty directory. */
export async function openWorkspace(
  build: (directory: string) => void,
  {
    directory,
    xattrs = 'trusted',
    imports = {},
    mountOptions,
    store = createMemoryStore(),
  }: WorkspaceOptions,
): Promise<Workspace> {
  const mount = join(directory, 'mount');
  const statCache = join(directory, 'cache');
  const source = join(directory, 'source');
  for (const made of [mount, source]) fs.mkdirSync(made);
  build(source);
  let base = (await importTree(store, source, imports)).root;
  let layers = '';
  let isMounted = false;
  let stacked = 0;

  function mountLayers(): void {
    const parts = ['lower', 'upper', 'work'].map((name) => `${name}dir=${join(layers, name)}`);
    const options = [...parts, MOUNT_OPTIONS[xattrs], ...(mountOptions ? [mountOptions] : [])].join(',');
    run('mount', '-t', 'overlay', 'overlay', '-o', options, mount);
    isMounted = true;
  }

  function unmount(): void {
    if (isMounted) run('umount', mount);
    isMounted = false;
  }

  async function stack(): Promise<void> {
    unmount();
    layers = join(directory, `layers${stacked++}`);
    for (const name of ['', 'upper', 'work']) fs.mkdirSync(join(layers, name));
    await exportTree(store, base, join(layers, 'lower'));
    mountLayers();
  }

  const workspace: Workspace = {
    store,
    mount,
    get upper() {
      return join(layers, 'upper');
    },
    base: () => base,
    at: (path) => `${mount}/${path}`,
    save: (options = {}) =>
      importTree(store, workspace.upper, {
        statCache,
        ...imports,
        ...options,
        over: { base, xattrs },
      }),
    plain: async () => (await importTree(createMemoryStore(), mount, imports)).root,
    remount() {
      unmount();
      mountLayers();
    },
    async restack() {
      base = (await workspace.save()).root;
      await stack();
    },
    close: unmount,
  };
  await stack();
  return workspace;
}

function run(program: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw error ?? new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

/** Something that is done to a directory; what is not possible there is not done. */
export type Operation =
  | { do: 'write' | 'append'; path: string; size: number }
  | { do: 'truncate'; path: string; size: number }
  | { do: 'rules'; path: string; text: string }
  | { do: 'unlink' | 'mkdir' | 'rmdir' | 'remove' | 'touch' | 'replace'; path: string }
  | { do: 'rename' | 'link'; path: string; to: string }
  | { do: 'symlink'; path: string; to: string }
  | { do: 'chmod'; path: string; mode: number };

export type Step = Operation | { do: 'save' | 'remount' | 'restack' };

let written = 0;

export function operate(root: string, operation: Operation): void {
  const path = `${root}/${operation.path}`;
  const content = (size: number) => Buffer.alloc(size, `${operation.path} ${written++} `);
  try {
    switch (operation.do) {
      case 'write':
        return fs.writeFileSync(path, content(operation.size));
      case 'append':
        return fs.appendFileSync(path, content(operation.size));
      case 'truncate':
        return fs.truncateSync(path, operation.size);
      case 'rules':
        return fs.writeFileSync(`${path}/.lazytreeignore`, operation.text);
      case 'unlink':
        return fs.unlinkSync(path);
      case 'mkdir':
        return void fs.mkdirSync(path);
      case 'rmdir':
        return fs.rmdirSync(path);
      case 'remove':
        return fs.rmSync(path, { recursive: true });
      case 'touch':
        return fs.lutimesSync(path, 1e9, 1e9 + written++);
      case 'replace':
        return replace(path);
      case 'rename':
        return fs.renameSync(path, `${root}/${operation.to}`);
      case 'link':
        return fs.linkSync(path, `${root}/${operation.to}`);
      case 'symlink':
        return fs.symlinkSync(operation.to, path);
      case 'chmod':
        return fs.chmodSync(path, operation.mode);
    }
  } catch (error) {
    if (!IMPOSSIBLE.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

const IMPOSSIBLE = new Set(
  'ENOENT ENOTDIR EISDIR EEXIST ENOTEMPTY EXDEV EINVAL EPERM ELOOP EBUSY EACCES ERR_FS_EISDIR'.split(' '),
);

/** A directory becomes a file, and anything else a directory with something in it. */
function replace(path: string): void {
  const isDirectory = fs.lstatSync(path).isDirectory();
  fs.rmSync(path, { recursive: true });
  if (isDirectory) fs.writeFileSync(path, 'was a directory');
  else {
    fs.mkdirSync(path);
    fs.writeFileSync(`${path}/a`, 'was no directory');
  }
}

/** Does all the steps, and says how the saves differ from plain imports, if they do. */
export async function differences(workspace: Workspace, steps: readonly Step[]): Promise<string[]> {
  const found: string[] = [];
  const compare = async (when: string) => {
    const saved = (await workspace.save()).root;
    const plain = await workspace.plain();
    if (saved !== plain) found.push(`${when}: ${formatLink(saved)} for ${formatLink(plain)}`);
  };
  for (const [i, step] of steps.entries()) {
    if (step.do === 'save') await compare(`at step ${i}`);
    else if (step.do === 'remount') workspace.remount();
    else if (step.do === 'restack') await workspace.restack();
    else operate(workspace.mount, step);
  }
  await compare('at the end');
  await compare('again');
  return found;
}
