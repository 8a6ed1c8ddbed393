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
  /** Mounts it again, after something was done to its layers. */
  remount(meanwhile?: (layers: { lower: string; upper: string }) => void): void;
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
        over: { base, xattrs },
        ...imports,
        ...options,
      }),
    plain: async () => (await importTree(createMemoryStore(), mount, imports)).root,
    remount(meanwhile) {
      unmount();
      meanwhile?.({ lower: join(layers, 'lower'), upper: join(layers, 'upper') });
      mountLayers();
    },
    async restack() {
      base = (await workspace.save()).root;
      await stack();
    },
    close() {
      if (isMounted && spawnSync('umount', [mount]).status !== 0) run('umount', '--lazy', mount);
      isMounted = false;
    },
  };
  await stack();
  return workspace;
}

function run(program: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw error ?? new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

/** Something that is done to a directory; what is not possible there is not done. */
export interface Operation {
  do: keyof typeof operations;
  path: string;
  /** A size, or permission bits. */
  number?: number;
  /** Another path, a target, or rules. */
  text?: string;
}

export type Step = Operation | { pause: 'save' | 'remount' | 'restack' };

let written = 0;
const content = (path: string, size: number) => Buffer.alloc(size, `${path} ${written++} `);

const operations = {
  write: (path: string, size: number) => fs.writeFileSync(path, content(path, size)),
  append: (path: string, size: number) => fs.appendFileSync(path, content(path, size)),
  truncate: (path: string, size: number) => fs.truncateSync(path, size),
  rules: (path: string, _: number, text: string) => fs.writeFileSync(`${path}/.lazytreeignore`, text),
  unlink: (path: string) => fs.unlinkSync(path),
  mkdir: (path: string) => fs.mkdirSync(path),
  rmdir: (path: string) => fs.rmdirSync(path),
  remove: (path: string) => fs.rmSync(path, { recursive: true }),
  touch: (path: string) => fs.lutimesSync(path, 1e9, 1e9 + written++),
  chmod: (path: string, mode: number) => fs.chmodSync(path, mode),
  rename,
  link: (path: string, _: number, to: string) => fs.linkSync(path, to),
  symlink: (path: string, _: number, target: string) => fs.symlinkSync(target, path),
  replace,
  remake,
};

/** Operations whose text is a path, too. */
const TWO_PATHS = new Set<Operation['do']>(['rename', 'link']);
const POSSIBLE_ERROR =
  /^(ENOENT|ENOTDIR|EISDIR|EEXIST|ENOTEMPTY|EXDEV|EINVAL|EPERM|ELOOP|EBUSY|EACCES|ERR_FS_.*)$/;

function operate(root: string, { do: what, path, number = 0, text = '' }: Operation): void {
  try {
    operations[what](`${root}/${path}`, number, TWO_PATHS.has(what) ? `${root}/${text}` : text);
  } catch (error) {
    if (!POSSIBLE_ERROR.test((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

/** Overlayfs without redirect_dir does not rename the directories of the lower layer; mv(1) copies them. */
function rename(path: string, _: number, to: string): void {
  try {
    fs.renameSync(path, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error;
    spawnSync('mv', ['-fT', path, to]);
  }
}

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

/** What was there makes place for a directory with one file in it. */
function remake(path: string): void {
  fs.rmSync(path, { recursive: true });
  fs.mkdirSync(path);
  fs.writeFileSync(`${path}/b`, 'made anew');
}

/** A base, and what is done in a workspace over it. */
export interface Scenario {
  base: Operation[];
  steps: Step[];
  preserve: boolean;
}

/** Plays a scenario in an empty directory, and says how the saves differ from plain imports, if they do. */
export async function play(
  { base, steps, preserve }: Scenario,
  directory: string,
  xattrs: 'trusted' | 'user',
): Promise<string[]> {
  const build = (source: string) => {
    for (const operation of base) operate(source, operation);
  };
  const workspace = await openWorkspace(build, { directory, xattrs, imports: { preserve } });
  try {
    return await differences(workspace, steps);
  } finally {
    workspace.close();
  }
}

async function differences(workspace: Workspace, steps: readonly Step[]): Promise<string[]> {
  const found: string[] = [];
  const compare = async (when: string) => {
    const saved = (await workspace.save()).root;
    const plain = await workspace.plain();
    if (saved !== plain) found.push(`${when}: ${formatLink(saved)} for ${formatLink(plain)}`);
  };
  for (const [i, step] of steps.entries()) {
    if ('do' in step) operate(workspace.mount, step);
    else if (step.pause === 'save') await compare(`at step ${i}`);
    else if (step.pause === 'remount') workspace.remount();
    else await workspace.restack();
  }
  await compare('at the end');
  await compare('again');
  return found;
}
