import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import {
  createMemoryStore,
  type Entry,
  encodeDirectory,
  type ImportOptions,
  type ImportResult,
  importTree,
  type Link,
  listDirectory,
  type PrunableStore,
  resolvePath,
  toFsPath,
} from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { readXattr } from '../src/overlay/xattr.js';
import {
  afterwards,
  type DirectorySpec,
  directory,
  errorOf,
  exportDescription,
  FAST,
  file,
  linkOf,
  manyFiles,
  pseudoRandom,
  startScript,
  symlink,
  temporaryDirectory,
  temporaryStore,
  writableThrough,
  writeTree,
} from './helpers.js';
import { NOBODY, whyNoOverlay } from './overlay-obstacles.js';
import { openWorkspace, type Workspace, type WorkspaceOptions } from './overlay-workspace.js';

const base = () =>
  directory({
    README: file('read me\n'),
    run: file('#!/bin/sh\n', true),
    link: symlink('README'),
    large: file(pseudoRandom(400_000, 1)),
    empty: directory(),
    sub: directory({
      one: file('1'),
      two: file('2'),
      same: file('1'),
      inner: directory({ deep: file('deep'), deeper: directory({ deepest: file('!') }) }),
    }),
    other: directory({ one: file('other 1'), x: file('x') }),
    'caf\udce9': directory({ '\udcff': file('not UTF-8') }),
  });

async function workspaceOver(
  spec: DirectorySpec,
  options: Omit<WorkspaceOptions, 'directory'> = {},
): Promise<Workspace> {
  const build = (source: string) => {
    fs.rmdirSync(source);
    writeTree(source, spec);
  };
  const workspace = await openWorkspace(build, { directory: await temporaryDirectory(FAST), ...options });
  afterwards(() => workspace.close());
  return workspace;
}

/** Longer than the time for which a change can hide behind an equal time stamp. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 60));

/** Saves, and saves again, and compares with an import of the mount. */
async function saved(workspace: Workspace): Promise<ImportResult> {
  const result = await workspace.save();
  expect(result.root).toBe(await workspace.plain());
  await settle();
  expect(await workspace.save()).toMatchObject({ root: result.root, size: result.size, files: result.files });
  expect(await workspace.save()).toMatchObject({ root: result.root, read: 0, warnings: result.warnings });
  return result;
}

/** A mark that overlayfs has made, so that a test shows that it is about what it says. */
function mark({ upper }: Workspace, path: string, name: string): string | undefined {
  return readXattr(join(upper, path), `trusted.overlay.${name}`)?.toString();
}

function isWhiteout({ upper }: Workspace, path: string): boolean {
  const stat = fs.lstatSync(join(upper, path));
  return stat.isCharacterDevice() && stat.rdev === 0;
}

function setMark(path: string, name: string, value = ''): void {
  const setter =
    "import os, sys; os.setxattr(sys.argv[1], 'trusted.overlay.' + sys.argv[2], sys.argv[3].encode())";
  const { status, stderr } = spawnSync('python3', ['-c', setter, path, name, value], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

/** What is done in the mount, and what of the upper layer shows that it is the form that is meant. */
interface Form {
  change(workspace: Workspace): void;
  check?(workspace: Workspace): void;
}

const forms: Record<string, Form> = {
  'a new file, directory and symlink': {
    change({ at }) {
      fs.writeFileSync(at('new'), 'new');
      fs.mkdirSync(at('sub/new'));
      fs.writeFileSync(at('sub/new/file'), pseudoRandom(300_000, 7));
      fs.symlinkSync('../one', at('sub/new/link'));
    },
  },
  'a changed file': {
    change: ({ at }) => fs.writeFileSync(at('sub/inner/deep'), 'deeper than before'),
  },
  'a file appended to': { change: ({ at }) => fs.appendFileSync(at('large'), 'more') },
  'a file truncated': { change: ({ at }) => fs.truncateSync(at('large'), 100_000) },
  'a whiteout': {
    change: ({ at }) => fs.unlinkSync(at('sub/one')),
    check: (workspace) => expect(isWhiteout(workspace, 'sub/one')).toBe(true),
  },
  'a whiteout of a directory': {
    change: ({ at }) => fs.rmSync(at('sub'), { recursive: true }),
    check: (workspace) => expect(isWhiteout(workspace, 'sub')).toBe(true),
  },
  'everything removed': {
    change: ({ at, mount }) => {
      for (const name of fs.readdirSync(mount, { encoding: 'buffer' }))
        fs.rmSync(Buffer.concat([Buffer.from(at('')), name]), { recursive: true });
    },
    check: (workspace) => expect(isWhiteout(workspace, 'README')).toBe(true),
  },
  'whiteouts that are files with an attribute': {
    change: (workspace) => {
      workspace.remount(({ upper }) => {
        fs.mkdirSync(join(upper, 'sub'));
        setMark(join(upper, 'sub'), 'opaque', 'x');
        for (const name of ['one', 'two', 'nothing']) fs.writeFileSync(join(upper, 'sub', name), '');
        for (const name of ['one', 'nothing']) setMark(join(upper, 'sub', name), 'whiteout');
      });
    },
    check: ({ at }) => expect(fs.existsSync(at('sub/one'))).toBe(false),
  },
  'an opaque directory': {
    change({ at }) {
      fs.rmSync(at('sub'), { recursive: true });
      fs.mkdirSync(at('sub'));
      fs.writeFileSync(at('sub/two'), 'only this');
    },
    check: (workspace) => expect(mark(workspace, 'sub', 'opaque')).toBe('y'),
  },
  'a directory renamed beside itself': {
    change: ({ at }) => fs.renameSync(at('sub'), at('moved')),
    check: (workspace) => expect(mark(workspace, 'moved', 'redirect')).toBe('sub'),
  },
  'a directory renamed to another one': {
    change: ({ at }) => fs.renameSync(at('sub/inner'), at('other/inner')),
    check: (workspace) => expect(mark(workspace, 'other/inner', 'redirect')).toBe('/sub/inner'),
  },
  'a directory renamed into a new one': {
    change({ at }) {
      fs.mkdirSync(at('new'));
      fs.renameSync(at('sub'), at('new/sub'));
    },
    check: (workspace) => expect(mark(workspace, 'new/sub', 'redirect')).toBe('/sub'),
  },
  'a directory renamed inside a renamed one, and changed': {
    change({ at }) {
      fs.renameSync(at('sub'), at('moved'));
      fs.renameSync(at('moved/inner'), at('moved/within'));
      fs.renameSync(at('moved/within/deeper'), at('shallow'));
      fs.writeFileSync(at('shallow/deepest'), 'changed');
      fs.unlinkSync(at('moved/two'));
    },
    check(workspace) {
      expect(mark(workspace, 'moved/within', 'redirect')).toBe('inner');
      expect(mark(workspace, 'shallow', 'redirect')).toBe('/sub/inner/deeper');
    },
  },
  'a chain of renames, and back': {
    change({ at }) {
      fs.renameSync(at('sub'), at('a'));
      fs.renameSync(at('a'), at('other/b'));
      fs.renameSync(at('other/b'), at('c'));
      fs.renameSync(at('c/inner'), at('d'));
      fs.renameSync(at('d'), at('c/inner'));
    },
  },
  'two directories that change places': {
    change({ at }) {
      fs.renameSync(at('sub'), at('t'));
      fs.renameSync(at('other'), at('sub'));
      fs.renameSync(at('t'), at('other'));
    },
    check: (workspace) => expect(mark(workspace, 'sub', 'redirect')).toBe('other'),
  },
  'a directory renamed over an empty one, and an emptied one': {
    change({ at }) {
      fs.renameSync(at('sub/inner'), at('empty'));
      for (const name of ['one', 'x']) fs.unlinkSync(at(`other/${name}`));
      fs.renameSync(at('sub'), at('other'));
    },
    check: (workspace) => expect(mark(workspace, 'other', 'redirect')).toBe('sub'),
  },
  'names that are not UTF-8, renamed': {
    change({ at }) {
      fs.renameSync(toFsPath(at('caf\udce9')), toFsPath(at('sub/\udcc3(')));
      fs.chmodSync(toFsPath(at('sub/\udcc3(/\udcff')), 0o755);
    },
  },
  'only the executable bit (metacopy)': {
    change({ at }) {
      fs.chmodSync(at('large'), 0o755);
      fs.chmodSync(at('run'), 0o644);
    },
    check(workspace) {
      expect(mark(workspace, 'large', 'metacopy')).toBe('');
      expect(fs.statSync(join(workspace.upper, 'large')).blocks).toBeLessThan(16);
    },
  },
  'a metacopy that was renamed': {
    change({ at }) {
      fs.chmodSync(at('large'), 0o755);
      fs.renameSync(at('large'), at('larger'));
      fs.chmodSync(at('sub/one'), 0o755);
      fs.renameSync(at('sub/one'), at('other/one'));
    },
    check(workspace) {
      expect(mark(workspace, 'larger', 'redirect')).toBe('large');
      expect(mark(workspace, 'other/one', 'redirect')).toBe('/sub/one');
    },
  },
  'a metacopy in a directory that was renamed': {
    change({ at }) {
      fs.renameSync(at('sub'), at('moved'));
      fs.chmodSync(at('moved/one'), 0o755);
      fs.chmodSync(at('moved/inner/deep'), 0o755);
      fs.renameSync(at('moved/inner'), at('inner'));
    },
    check(workspace) {
      expect(mark(workspace, 'moved/one', 'metacopy')).toBe('');
      expect(mark(workspace, 'inner/deep', 'redirect')).toBe(undefined);
    },
  },
  'a metacopy that is written to afterwards': {
    change({ at }) {
      fs.chmodSync(at('large'), 0o755);
      fs.appendFileSync(at('large'), 'more');
    },
    check: (workspace) => expect(mark(workspace, 'large', 'metacopy')).toBe(undefined),
  },
  'hard links of a metacopy': {
    change({ at }) {
      fs.chmodSync(at('large'), 0o755);
      fs.linkSync(at('large'), at('sub/large'));
      fs.mkdirSync(at('new'));
      fs.linkSync(at('large'), at('new/large'));
    },
    check: (workspace) => expect(mark(workspace, 'new/large', 'redirect')).toBe('/large'),
  },
  'hard links in the lower layer': {
    change(workspace) {
      const { at } = workspace;
      workspace.remount(({ lower }) => {
        fs.rmSync(join(lower, 'sub/same'));
        fs.linkSync(join(lower, 'sub/one'), join(lower, 'sub/same'));
      });
      fs.chmodSync(at('sub/one'), 0o755);
      fs.renameSync(at('sub/one'), at('other/y'));
      fs.appendFileSync(at('sub/same'), 'no longer');
    },
    check: (workspace) => expect(mark(workspace, 'other/y', 'redirect')).toBe('/sub/one'),
  },
  'hard links': {
    change({ at }) {
      fs.linkSync(at('sub/one'), at('first'));
      fs.linkSync(at('first'), at('other/second'));
      fs.appendFileSync(at('first'), 'both');
    },
  },
  'a sparse file': {
    change({ at }) {
      fs.writeFileSync(at('sparse'), 'begin');
      fs.truncateSync(at('sparse'), 10_000_000);
      fs.appendFileSync(at('sparse'), 'end');
    },
  },
  'a renamed file of the lower layer': {
    change({ at }) {
      fs.renameSync(at('sub/one'), at('sub/three'));
      fs.renameSync(at('large'), at('other/large'));
    },
  },
  'a file that becomes a directory, and back': {
    change({ at }) {
      for (const name of ['README', 'run']) {
        fs.unlinkSync(at(name));
        fs.mkdirSync(at(name));
        fs.writeFileSync(at(`${name}/in`), 'it');
      }
      fs.rmSync(at('run'), { recursive: true });
      fs.writeFileSync(at('run'), 'a file again');
    },
    check: (workspace) => expect(mark(workspace, 'README', 'opaque')).toBe('y'),
  },
  'a directory that becomes a file, and back': {
    change({ at }) {
      for (const name of ['sub', 'other']) {
        fs.rmSync(at(name), { recursive: true });
        fs.writeFileSync(at(name), 'a file');
      }
      fs.unlinkSync(at('other'));
      fs.mkdirSync(at('other'));
      fs.writeFileSync(at('other/one'), 'another one');
    },
  },
  'symlinks replaced': {
    change({ at }) {
      fs.unlinkSync(at('link'));
      fs.symlinkSync('/elsewhere', at('link'));
      fs.rmSync(at('sub'), { recursive: true });
      fs.symlinkSync('other', at('sub'));
    },
  },
  'empty directories': {
    change({ at }) {
      fs.rmdirSync(at('empty'));
      fs.mkdirSync(at('sub/empty'));
      for (const name of ['one', 'x']) fs.unlinkSync(at(`other/${name}`));
    },
  },
  'a file that comes back as it was': {
    change({ at }) {
      fs.unlinkSync(at('sub/one'));
      fs.writeFileSync(at('sub/one'), '1');
    },
  },
};

const problem = whyNoOverlay();
/** Skipped, with the reason in the name, where it is impossible. */
const inMounts = (title: string, tests: () => void) => {
  if (problem) it.skip(`NOT TESTED: ${problem}: ${title}`, () => undefined);
  else describe(title, tests);
};

inMounts('saving equals importing what the mount shows:', () => {
  for (const [name, { change, check }] of Object.entries(forms)) {
    it(name, async () => {
      const workspace = await workspaceOver(base());
      change(workspace);
      check?.(workspace);
      const { root } = await saved(workspace);
      workspace.remount();
      expect(await workspace.plain()).toBe(root);
    });
  }

  it('all at once, with permission bits and times, and a stack of saves', async () => {
    const workspace = await workspaceOver(base(), { imports: { preserve: true } });
    for (const name of [
      'hard links',
      'a metacopy that was renamed',
      'an opaque directory',
      'a sparse file',
    ]) {
      forms[name].change(workspace);
      fs.utimesSync(workspace.at('other/x'), 1, 2.5);
      fs.chmodSync(workspace.at('empty'), 0o700);
      await saved(workspace);
      await workspace.restack();
      fs.rmSync(workspace.at('run'), { force: true });
      fs.writeFileSync(workspace.at('run'), name);
      await saved(workspace);
    }
  });

  it('special files are left out, and hide what is below', async () => {
    const workspace = await workspaceOver(base());
    fs.unlinkSync(workspace.at('sub/one'));
    spawnSync('mkfifo', [workspace.at('sub/one')]);
    const { warnings } = await saved(workspace);
    expect(warnings).toEqual([{ path: 'sub/one', kind: 'special', message: 'named pipe skipped' }]);
  });

  it('an escaped mark is the mark of another overlay', async () => {
    const workspace = await workspaceOver(base());
    fs.writeFileSync(workspace.at('sub/new'), 'new');
    for (const path of ['sub', 'sub/new']) setMark(workspace.at(path), 'opaque', 'y');
    expect(mark(workspace, 'sub', 'overlay.opaque')).toBe('y');
    await saved(workspace);
  });
});

inMounts('a workspace that was not changed', () => {
  it('has the root of its base, though directories were touched', async () => {
    const workspace = await workspaceOver(base());
    expect((await saved(workspace)).root).toBe(workspace.base());
    fs.writeFileSync(workspace.at('sub/inner/new'), 'new');
    fs.unlinkSync(workspace.at('sub/inner/new'));
    expect(fs.readdirSync(join(workspace.upper, 'sub/inner'))).toEqual([]);
    expect(await saved(workspace)).toMatchObject({ root: workspace.base(), read: 0, files: 11 });
  });

  it('is as it was after everything in it has been removed, but for the upper layer', async () => {
    const workspace = await workspaceOver(base());
    const before = await exportDescription(workspace.store, workspace.base());
    fs.rmSync(workspace.at('sub'), { recursive: true });
    await saved(workspace);
    expect(await exportDescription(workspace.store, workspace.base())).toEqual(before);
    workspace.remount(({ upper }) => fs.rmSync(upper, { recursive: true }) ?? fs.mkdirSync(upper));
    expect((await workspace.save({ statCache: join(await temporaryDirectory(), 'cache') })).root).toBe(
      workspace.base(),
    );
  });
});

/** Notes what is read from a store. */
function watched(store: PrunableStore): { store: PrunableStore; got: Set<Link> } {
  const got = new Set<Link>();
  const get: PrunableStore['get'] = (link, options) => {
    got.add(link);
    return store.get(link, options);
  };
  return { store: { ...store, get }, got };
}

inMounts('the cost of a save', () => {
  it('is the directories that were touched, read once, and the files that are new', async () => {
    const { store, got } = watched(createMemoryStore());
    const many = manyFiles(3000, { perDirectory: 10, size: 10 });
    const workspace = await workspaceOver(directory({ many, ...Object.fromEntries(base().entries) }), {
      store,
    });
    const nodeOf = async (path: string) =>
      ((await resolvePath(store, workspace.base(), path)) as { link: Link }).link;
    const touched = new Set([workspace.base(), await nodeOf('sub'), await nodeOf('sub/inner')]);
    fs.writeFileSync(workspace.at('sub/inner/deep'), 'changed');
    await settle();
    got.clear();
    expect(await workspace.save()).toMatchObject({ read: 1, files: 3011 });
    expect(got).toEqual(touched);
    fs.writeFileSync(workspace.at('sub/new'), 'new');
    await settle();
    expect(await workspace.save()).toMatchObject({ read: 1, files: 3012 });
  });

  it('is not that of a large directory in which nothing has changed', async () => {
    const { store, got } = watched(createMemoryStore());
    const large = directory(new Map(Array.from({ length: 5000 }, (_, i) => [`f${i}`, file(`${i}`)])));
    const workspace = await workspaceOver(directory({ large }), { store });
    fs.writeFileSync(workspace.at('large/f77'), 'changed');
    await saved(workspace);
    fs.unlinkSync(workspace.at('large/f78'));
    await saved(workspace);
    await workspace.restack();
    fs.writeFileSync(workspace.at('large/new'), '');
    fs.unlinkSync(workspace.at('large/new'));
    await settle();
    got.clear();
    await workspace.save();
    expect(got.size).toBeLessThanOrEqual(2);
  });

  it('what is known of a layer is not believed over another base', async () => {
    const workspace = await workspaceOver(base());
    fs.chmodSync(workspace.at('sub/one'), 0o755);
    await settle();
    await saved(workspace);
    const source = join(await temporaryDirectory(), 'source');
    const spec = base();
    (spec.entries.get('sub') as DirectorySpec).entries.set('one', file('another one'));
    writeTree(source, spec);
    const { root } = await importTree(workspace.store, source);
    const again = await workspace.save({ over: { base: root } });
    expect(await resolvePath(workspace.store, again.root, 'sub/one')).toMatchObject({
      kind: 'executable',
      link: linkOf('another one'),
    });
  });
});

inMounts('ignore rules', () => {
  const ruled = (rules: string) =>
    directory({
      '.lazytreeignore': file(rules),
      kept: file('kept'),
      ignored: file('only if not ignored'),
      sub: directory({ kept: file('k'), x: file('x'), inner: directory({ x: file('x') }) }),
      other: directory({ y: file('y') }),
    });

  it('of the lower layer hold for what is new', async () => {
    const workspace = await workspaceOver(ruled('ignored\n/sub/x\n'));
    fs.writeFileSync(workspace.at('ignored'), 'new');
    fs.writeFileSync(workspace.at('sub/x'), 'new');
    fs.writeFileSync(workspace.at('sub/inner/x'), 'changed');
    await saved(workspace);
  });

  it('that change leave out what the lower layer has, at any depth', async () => {
    const workspace = await workspaceOver(ruled(''));
    fs.writeFileSync(workspace.at('.lazytreeignore'), 'x\n');
    const { root } = await saved(workspace);
    expect((await listDirectory(workspace.store, root)).map(({ name }) => name)).toContain('sub');
    const inner = (await resolvePath(workspace.store, root, 'sub/inner')) as Entry & { link: Link };
    expect(await listDirectory(workspace.store, inner.link)).toEqual([]);
    fs.unlinkSync(workspace.at('.lazytreeignore'));
    await saved(workspace);
  });

  it('are those of a metacopy, and of a renamed file', async () => {
    const workspace = await workspaceOver(ruled('ignored\n'));
    fs.chmodSync(workspace.at('.lazytreeignore'), 0o755);
    fs.writeFileSync(workspace.at('ignored'), 'new');
    expect(mark(workspace, '.lazytreeignore', 'metacopy')).toBe('');
    await saved(workspace);
    fs.renameSync(workspace.at('.lazytreeignore'), workspace.at('sub/.lazytreeignore'));
    fs.writeFileSync(workspace.at('sub/ignored'), 'new');
    await saved(workspace);
  });

  it('hold where a directory has been renamed to', async () => {
    const workspace = await workspaceOver(ruled('/moved/x\n'));
    fs.renameSync(workspace.at('sub'), workspace.at('moved'));
    const { root } = await saved(workspace);
    await expect(resolvePath(workspace.store, root, 'moved/x')).rejects.toThrow();
    await resolvePath(workspace.store, root, 'moved/inner/x');
  });

  it('are not asked when there are to be none', async () => {
    const workspace = await workspaceOver(ruled('*'), { imports: { ignoreFiles: false } });
    fs.writeFileSync(workspace.at('sub/new'), 'new');
    await saved(workspace);
  });
});

inMounts('origins in the base', () => {
  const origin: Entry = {
    kind: 'origin',
    of: 'directory',
    name: 'modules',
    driver: 'npm-lock',
    reference: 'x',
  };

  /** A base with an origin, whose directory is empty in the lower layer. */
  async function workspaceWithOrigin(): Promise<{ workspace: Workspace; over: { base: Link } }> {
    const workspace = await workspaceOver(
      directory({ modules: directory(), sub: directory({ f: file('f') }) }),
    );
    const entries = await listDirectory(workspace.store, workspace.base());
    const encoded = encodeDirectory(entries.map((entry) => (entry.name === 'modules' ? origin : entry)));
    for (const node of encoded.nodes) await workspace.store.put(node);
    return { workspace, over: { base: encoded.link } };
  }

  const save = (workspace: Workspace, options: ImportOptions) =>
    importTree(workspace.store, workspace.upper, options);

  it('stay what they are', async () => {
    const { workspace, over } = await workspaceWithOrigin();
    const statCache = join(await temporaryDirectory(), 'cache');
    expect((await save(workspace, { over, statCache })).root).toBe(over.base);
    for (const content of ['a', 'b', 'c']) {
      fs.writeFileSync(workspace.at('sub/f'), content);
      fs.writeFileSync(workspace.at(`sub/${content}`), content);
      await settle();
      const { root, read } = await save(workspace, { over, statCache });
      expect(read).toBe(2);
      expect(await resolvePath(workspace.store, root, 'modules')).toEqual(origin);
      expect(await resolvePath(workspace.store, root, 'sub/f')).toMatchObject({ link: linkOf(content) });
      expect(await save(workspace, { over, statCache })).toMatchObject({ root, read: 0 });
    }
  });

  it('can be replaced, and not changed', async () => {
    const { workspace, over } = await workspaceWithOrigin();
    fs.writeFileSync(workspace.at('modules/new'), 'new');
    const error = await errorOf(save(workspace, { over }));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining("'modules'") });
    fs.rmSync(workspace.at('modules'), { recursive: true });
    fs.mkdirSync(workspace.at('modules'));
    fs.writeFileSync(workspace.at('modules/new'), 'new');
    const { root } = await save(workspace, { over });
    expect(await resolvePath(workspace.store, root, 'modules/new')).toMatchObject({ kind: 'file' });
  });
});

inMounts('what a save needs', () => {
  it('is fetched: the nodes of the base that are touched, and nothing else', async () => {
    const workspace = await workspaceOver(base());
    fs.writeFileSync(workspace.at('sub/new'), 'new');
    const here = createMemoryStore();
    const { store: remote, got } = watched(workspace.store as PrunableStore);
    const fetching = writableThrough({ ...remote, has: here.has }, here);
    const options = { over: { base: workspace.base() } };
    const { root } = await importTree(fetching, workspace.upper, options);
    expect(root).toBe(await workspace.plain());
    expect(got.size).toBe(2);
    const error = await errorOf(importTree(createMemoryStore(), workspace.upper, options));
    expect(error.code).toBe('BLOCK_MISSING');
  });

  it('is to see the marks', async () => {
    const workspace = await workspaceOver(base());
    const { child, ended } = startScript(
      `const store = core.createMemoryStore();
      const empty = core.encodeDirectory([]);
      const { link, nodes } = core.encodeDirectory([{ kind: 'directory', name: 'a', link: empty.link, size: 0, files: 0 }]);
      for (const node of [...nodes, ...empty.nodes]) await store.put(node);
      await core.importTree(store, process.cwd(), { over: { base: link } }).catch((error) => console.log(error.code));`,
      [],
      { uid: NOBODY, gid: NOBODY, cwd: '/' },
    );
    expect(child.pid).toBeDefined();
    expect((await ended).stdout).toBe('REFUSED\n');
    expect((await workspace.save()).root).toBe(workspace.base());
  });

  it('is the same options as the base was imported with, which it finds out', async () => {
    const workspace = await workspaceOver(base());
    fs.writeFileSync(workspace.at('new'), 'new');
    const error = await errorOf(workspace.save({ preserve: true }));
    expect(error).toMatchObject({ code: 'USAGE', message: expect.stringContaining('metadata') });
    const keeping = await workspaceOver(base(), { imports: { preserve: true } });
    fs.writeFileSync(keeping.at('sub/new'), 'new');
    expect((await keeping.save({ preserve: undefined as never })).root).toBe(await keeping.plain());
  });

  it('is the tree that it was mounted over, a directory', async () => {
    const workspace = await workspaceOver(base());
    fs.chmodSync(workspace.at('sub/one'), 0o755);
    const source = join(await temporaryDirectory(), 'source');
    writeTree(source, directory({ sub: directory() }));
    const { root } = await importTree(workspace.store, source);
    const error = await errorOf(importTree(workspace.store, workspace.upper, { over: { base: root } }));
    expect(error.message).toContain("the content of 'sub/one' is not at 'one' in the base");
    const content = await errorOf(workspace.save({ over: { base: linkOf('x') } }));
    expect(content.code).toBe('USAGE');
  });

  it('can be broken off', async () => {
    const workspace = await workspaceOver(base());
    fs.writeFileSync(workspace.at('new'), 'new');
    const signal = AbortSignal.abort();
    expect((await errorOf(workspace.save({ signal }))).name).toBe('AbortError');
    const underWay = new AbortController();
    const onProgress = () => underWay.abort(new Error('enough'));
    const error = await errorOf(workspace.save({ signal: underWay.signal, onProgress }));
    expect(error.message).toBe('enough');
  });

  it('is kept by gc: a local store', async () => {
    const store = await temporaryStore();
    const workspace = await workspaceOver(base(), { store });
    fs.renameSync(workspace.at('sub'), workspace.at('moved'));
    await saved(workspace);
  });
});
