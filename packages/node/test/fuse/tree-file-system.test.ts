import {
  compareNames,
  DAG_CBOR,
  type FileEntry,
  formatLink,
  InvalidNodeError,
  type Link,
  linkCodec,
  linkTo,
  nameFromBytes,
  nameToBytes,
  RAW,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type DirectorySpec,
  directory,
  file,
  pseudoRandom,
  symlink,
  type TreeNode,
} from '../../../core/test/helpers.ts';
import type { Attributes } from '../../dist/fuse/protocol/reply.js';
import { allocateGiven, givenIn } from '../../dist/fuse/session/given.js';
import { type Blocks, createBlocks, MissingBlocks } from '../../dist/fuse/tree/blocks.js';
import { inodeOf, pathHash } from '../../dist/fuse/tree/inode.js';
import { NodeTableError, openNodeTable } from '../../dist/fuse/tree/node-table.js';
import { createTreeFileSystem, type TreeFileSystem } from '../../dist/fuse/tree/tree-file-system.js';
import { tableMemory } from './table-memory.ts';
import { type BlockMap, encodeNode, encodeSpec, treesArbitrary } from './tree-model.ts';

const TOP = 1;

interface Served {
  files: TreeFileSystem;
  roots: Link[];
  blocks: BlockMap;
  /** Runs an operation as a session does: what is missing is fetched, and it is run again. */
  retried<T>(operation: () => T): T;
  /** Goes on as another process would, with the table alone. */
  restart(): void;
}

/** @param missing whether a block is not in the store, and has to be fetched whenever it is wanted */
function serve(
  specs: DirectorySpec[],
  missing: (link: Link) => boolean = () => false,
  given = givenIn(allocateGiven()),
): Served {
  const blocks: BlockMap = new Map();
  const roots = specs.map((spec) => encodeSpec(spec, blocks).link);
  const memory = tableMemory();
  const begin = () => {
    store = createBlocks({
      get: (link) => (missing(link) ? undefined : blocks.get(link)),
      getAll() {},
      recycle() {},
      async close() {},
    });
    const table = openNodeTable(memory);
    return createTreeFileSystem(store, { view: { allRoots: true }, given, table });
  };
  let store: Blocks;
  let files = begin();
  function retried<T>(operation: () => T): T {
    for (let attempt = 0; attempt < 100; attempt++) {
      try {
        return operation();
      } catch (error) {
        if (!(error instanceof MissingBlocks)) throw error;
        expect(error.corrupt).toBe(false);
        for (const link of error.links) store.keep(link, blocks.get(link) as Uint8Array);
      }
    }
    throw new Error('it does not stop missing blocks');
  }
  const current = {} as Record<string, unknown>;
  for (const name of Object.keys(files) as (keyof TreeFileSystem)[]) {
    current[name] = (...args: never[]) => (files[name] as (...args: never[]) => unknown)(...args);
  }
  return {
    files: current as unknown as TreeFileSystem,
    roots,
    blocks,
    retried,
    restart() {
      files = begin();
    },
  };
}

interface Listed extends Attributes {
  name: string;
  next: number;
}

/** One page of a directory, of at most `most` entries, which are remembered as the kernel would have them. */
function page({ files, retried }: Served, node: number, offset: number, most: number, plus = true): Listed[] {
  let entries: Listed[] = [];
  const added = retried(() => {
    entries = [];
    return files.list(node, offset, (name, of, next) => {
      if (entries.length >= most) return false;
      entries.push({ ...of, name: nameFromBytes(name), next });
      return true;
    });
  });
  const told = entries.filter(({ name }) => name !== '.' && name !== '..').map((entry) => entry.node);
  expect(added).toEqual(told);
  if (plus) {
    for (const id of added) files.remember(id);
    files.openNext(node);
  }
  return entries;
}

/** All of a directory, in pages of at most `most`. */
function list(served: Served, node: number, most: number, plus = true): Listed[] {
  const all: Listed[] = [];
  for (let offset = 0; ; ) {
    const entries = page(served, node, offset, most, plus);
    if (entries.length === 0) return all;
    all.push(...entries);
    offset = entries[entries.length - 1].next;
  }
}

function lookup({ files, retried }: Served, parent: number, name: string): number {
  const node = retried(() => files.lookup(parent, nameToBytes(name)));
  if (node !== 0) files.remember(node);
  return node;
}

function openRoot(served: Served, index: number): number {
  return lookup(served, TOP, formatLink(served.roots[index]));
}

const MODE = { directory: 0o040755, symlink: 0o120777 };

function modeOf(node: TreeNode): number {
  if (node.kind === 'file') return node.executable ? 0o100755 : 0o100644;
  return MODE[node.kind];
}

function sizeOf(node: TreeNode): number {
  if (node.kind === 'file') return node.content.length;
  return node.kind === 'symlink' ? nameToBytes(node.target).length : 0;
}

/** A node that the kernel knows. */
interface Known {
  root: number;
  path: string;
  spec: TreeNode;
  lookups: number;
}

type Place = Omit<Known, 'lookups'>;

/** What the kernel knows, and a check of everything that it is told against what the trees are. */
function createKernel(served: Served, specs: DirectorySpec[]) {
  const { files, retried } = served;
  const known = new Map<number, Known>();
  const nodeOf = new Map<string, number>();
  /** What each pair of node id and generation has ever stood for. */
  const everSeen = new Map<string, string>();
  const inodes = new Map<number, string>();
  const inodeAt = new Map<string, number>();
  const contents = new WeakMap<TreeNode, string>();

  function contentOf(spec: TreeNode): string {
    let content = contents.get(spec);
    if (content === undefined) {
      content = JSON.stringify(encodeNode('', spec, new Map()));
      contents.set(spec, content);
    }
    return content;
  }

  /** Files are what they are at their path, whichever root they are under; a directory is one root's. */
  function identity({ root, path, spec }: Place): string {
    const owner = spec.kind === 'directory' ? `${root} ` : '';
    return `${owner}${JSON.stringify(path)} ${contentOf(spec)}`;
  }

  function learn(id: number, attributes: Attributes, what: Place): void {
    const is = identity(what);
    const name = `${id}.${files.attributes(id).generation}`;
    expect(everSeen.get(name) ?? is).toBe(is);
    everSeen.set(name, is);
    expect(nodeOf.get(is) ?? id).toBe(id);
    nodeOf.set(is, id);
    const before = known.get(id);
    if (before) expect(identity(before)).toBe(is);
    known.set(id, { ...what, ...before, lookups: (before?.lookups ?? 0) + 1 });
    checkAttributes(attributes, what);
  }

  function checkAttributes(attributes: Attributes, what: Place): void {
    const { spec, path } = what;
    expect(attributes).toMatchObject({
      mode: modeOf(spec),
      size: sizeOf(spec),
      links: spec.kind === 'directory' ? 2 : 1,
      seconds: 499162500,
      nanoseconds: 0,
    });
    const { inode } = attributes;
    expect(Number.isSafeInteger(inode)).toBe(true);
    // Equal directories at one path of two roots are alike: stat tells them apart by nothing that matters.
    const at = `${JSON.stringify(path)} ${contentOf(spec)}`;
    expect(inodes.get(inode) ?? at).toBe(at);
    inodes.set(inode, at);
    expect(inodeAt.get(at) ?? inode).toBe(inode);
    inodeAt.set(at, inode);
  }

  return {
    known,
    restart: served.restart,
    openRoot(index: number): void {
      const id = openRoot(served, index);
      learn(id, files.attributes(id), { root: index, path: '', spec: specs[index] });
    },
    lookup(parent: number, name: string): void {
      const { root, path, spec } = known.get(parent) as Known;
      const child = (spec as DirectorySpec).entries.get(name);
      const id = lookup(served, parent, name);
      if (!child) expect(id).toBe(0);
      else {
        const attributes = { ...retried(() => files.attributes(id)) };
        expect(attributes.node).toBe(id);
        learn(id, attributes, { root, path: path === '' ? name : `${path}/${name}`, spec: child });
      }
    },
    list(id: number, most: number, plus: boolean): void {
      const { root, path, spec } = known.get(id) as Known;
      const entries = (spec as DirectorySpec).entries;
      const listed = list(served, id, most, plus);
      const names = listed.map(({ name }) => name);
      expect(names).toEqual(['.', '..', ...[...entries.keys()].sort(compareNames)]);
      expect(listed.map(({ next }) => next)).toEqual(names.map((_, i) => i + 1));
      for (const { name, ...attributes } of listed.slice(2)) {
        const what = {
          root,
          path: path === '' ? name : `${path}/${name}`,
          spec: entries.get(name) as TreeNode,
        };
        if (plus) learn(attributes.node, attributes, what);
        else checkAttributes(attributes, what);
      }
    },
    /** From somewhere in the middle. */
    page(id: number, offset: number, most: number): void {
      const { spec } = known.get(id) as Known;
      const names = ['.', '..', ...[...(spec as DirectorySpec).entries.keys()].sort(compareNames)];
      const found = page(served, id, offset, most, false).map(({ name }) => name);
      expect(found).toEqual(names.slice(offset, offset + found.length));
      if (offset < names.length) expect(found.length).toBeGreaterThan(0);
    },
    inspect(id: number, offset: number, size: number): void {
      const one = known.get(id) as Known;
      checkAttributes({ ...retried(() => files.attributes(id)) }, one);
      expect(files.describe(id).path).toBe(one.path);
      const { spec } = one;
      const { link } = JSON.parse(contentOf(spec)) as { link: Link };
      const cid = retried(() => files.cid(id));
      if (spec.kind === 'symlink') {
        expect(cid).toBeUndefined();
        expect(Buffer.from(files.target(id))).toEqual(Buffer.from(nameToBytes(spec.target)));
        return;
      }
      expect(cid).toBe(formatLink(link));
      if (spec.kind === 'directory') return;
      const bytes = Buffer.concat(retried(() => files.read(id, offset, size)));
      expect(bytes.equals(spec.content.subarray(offset, offset + size))).toBe(true);
      const list = files.toPush(id);
      list?.links.forEach((link, i) => {
        expect(files.cid(list.nodes[i])).toBe(formatLink(link));
        expect({ ...files.attributes(list.nodes[i]) }.size).toBe(list.sizes[i]);
      });
    },
    forget(id: number, lookups: number): void {
      const one = known.get(id) as Known;
      files.forget(id, lookups);
      one.lookups -= lookups;
      if (one.lookups > 0) return;
      known.delete(id);
      nodeOf.delete(identity(one));
    },
  };
}

type Step =
  | { do: 'root'; which: number }
  | { do: 'restart' }
  | { do: 'lookup' | 'list' | 'listPlain' | 'page' | 'inspect' | 'forget'; which: number; pick: number };

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
  { weight: 1, arbitrary: fc.nat(5).map((which) => ({ do: 'root' as const, which })) },
  {
    weight: 9,
    arbitrary: fc
      .tuple(
        fc.constantFrom(
          'lookup' as const,
          'lookup' as const,
          'list' as const,
          'listPlain' as const,
          'page' as const,
          'inspect' as const,
          'forget' as const,
          'forget' as const,
        ),
        fc.nat(10_000),
        fc.nat(1_000_000),
      )
      .map(([what, which, pick]) => ({ do: what, which, pick })),
  },
);

function take(kernel: ReturnType<typeof createKernel>, step: Step, roots: number): void {
  if (step.do === 'restart') {
    kernel.restart();
    return;
  }
  if (step.do === 'root') {
    kernel.openRoot(step.which % roots);
    return;
  }
  const { which, pick } = step;
  const all = [...kernel.known.keys()];
  const directories = all.filter((id) => kernel.known.get(id)?.spec.kind === 'directory');
  const id = all[which % all.length];
  const parent = directories[which % directories.length];
  if (step.do === 'forget' && id !== undefined) {
    const { lookups } = kernel.known.get(id) as Known;
    kernel.forget(id, pick % 3 === 0 ? 1 : lookups);
  } else if (step.do === 'inspect' && id !== undefined) kernel.inspect(id, pick % 700_000, pick % 300_000);
  else if (parent === undefined) return;
  else if (step.do === 'lookup') {
    const { spec } = kernel.known.get(parent) as Known;
    const names = [...(spec as DirectorySpec).entries.keys(), 'a', 'absent'];
    kernel.lookup(parent, names[pick % names.length]);
  } else if (step.do === 'list') kernel.list(parent, 1 + (pick % 600), true);
  else if (step.do === 'listPlain') kernel.list(parent, 1 + (pick % 600), false);
  else if (step.do === 'page') kernel.page(parent, pick % 5000, 1 + (pick % 13));
}

describe('the file system of all roots', () => {
  it.each([
    ['of a store that has everything', (): boolean => false],
    ['of a store that lacks some blocks', (link: Link) => link.charCodeAt(5) % 3 === 0],
    ['of an empty store', () => true],
  ])('%s is what the trees are, and forgets what is forgotten', (_, missing) => {
    fc.assert(
      fc.property(
        treesArbitrary,
        fc.array(stepArbitrary, { maxLength: 60 }),
        fc.nat(),
        (specs, steps, seed) => {
          const served = serve(specs, missing);
          // Equal trees are one root.
          fc.pre(new Set(served.roots).size === specs.length);
          const kernel = createKernel(served, specs);
          const before = served.files.nodes();
          for (const step of steps) take(kernel, step, specs.length);
          // In any order: an inode may outlive the directory that it was found in.
          const rest = [...kernel.known].sort(([a], [b]) => ((a * seed) % 997) - ((b * seed) % 997));
          for (const [id, { lookups }] of rest) kernel.forget(id, lookups);
          expect(served.files.nodes()).toBe(before);
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe('files of several roots', () => {
  const shared = {
    a: file('same'),
    b: file('same'),
    link: symlink('a'),
    sub: directory({ c: file('deep') }),
  };

  function ids(served: Served, root: number): Record<string, number> {
    const top = openRoot(served, root);
    return Object.fromEntries(
      list(served, top, 100)
        .slice(2)
        .map(({ name, node }) => [name, node]),
    );
  }

  it('are one node where path and content are the same, and no directory is', () => {
    const served = serve([
      directory({ ...shared, own: file('1') }),
      directory({ ...shared, own: file('2') }),
    ]);
    const [one, two] = [ids(served, 0), ids(served, 1)];
    expect(two).toMatchObject({ a: one.a, b: one.b, link: one.link });
    expect(two.own).not.toBe(one.own);
    expect(two.sub).not.toBe(one.sub);
    const deep = [one.sub, two.sub].map((sub) => lookup(served, sub, 'c'));
    expect(deep[0]).toBe(deep[1]);
  });

  it('are different nodes and inodes at different paths of one tree', () => {
    const served = serve([directory(shared)]);
    const { a, b } = ids(served, 0);
    expect(a).not.toBe(b);
    expect({ ...served.files.attributes(a) }.inode).not.toBe({ ...served.files.attributes(b) }.inode);
  });

  it('are different nodes where the executable bit differs', () => {
    const served = serve([directory({ x: file('same') }), directory({ x: file('same', true) })]);
    const [plain, executable] = [ids(served, 0).x, ids(served, 1).x];
    expect(plain).not.toBe(executable);
    expect({ ...served.files.attributes(plain) }.mode).toBe(0o100644);
    expect({ ...served.files.attributes(executable) }.mode).toBe(0o100755);
  });

  it('outlive the root that they were first seen in', () => {
    const served = serve([
      directory({ ...shared, own: file('1') }),
      directory({ ...shared, own: file('2') }),
    ]);
    const { files } = served;
    const before = files.nodes();
    const one = openRoot(served, 0);
    list(served, one, 100);
    const two = openRoot(served, 1);
    const listed = list(served, two, 100).slice(2);
    for (const { node } of list(served, one, 100).slice(2)) files.forget(node, 2);
    files.forget(one, 1);
    for (const { name, node } of listed.filter((entry) => entry.name === 'a')) {
      expect(files.describe(node)).toMatchObject({ path: name });
      expect(Buffer.concat(files.read(node, 0, 10)).toString()).toBe('same');
    }
    for (const { node, name } of listed) if (name === 'sub' || name === 'own') files.forget(node, 1);
    files.forget(two, 1);
    for (const { node } of listed) files.forget(node, 1);
    expect(files.nodes()).toBe(before);
  });
});

describe('what is to be pushed', () => {
  const many = directory(
    Array.from({ length: 4 }, (_, d) => [
      `d${d}`,
      directory(Array.from({ length: 20 }, (_, f) => [`f${f}`, file(`${d} ${f}`)])),
    ]),
  );

  /** Lists everything, reads a file of each directory, and returns what is to be pushed after each. */
  function walk(served: Served, names: string[]) {
    const { files } = served;
    const top = openRoot(served, 0);
    const known: number[] = [top];
    const lists = [];
    const directories = new Map(list(served, top, 100).map(({ name, node }) => [name, node]));
    for (const name of names) {
      const node = directories.get(name) as number;
      const inner = list(served, node, 100).slice(2);
      known.push(...inner.map((entry) => entry.node));
      files.read(inner[0].node, 0, 10);
      lists.push(files.toPush(inner[0].node));
    }
    known.push(...[...directories].flatMap(([name, node]) => (name.startsWith('.') ? [] : [node])));
    return { known, lists };
  }

  it('are files as they are now, also after everything was forgotten and has other nodes', () => {
    const served = serve([many]);
    const { files } = served;
    const order = ['d0', 'd1', 'd2', 'd3'];
    for (let round = 0; round < 8; round++) {
      const { known, lists } = walk(served, round % 2 === 0 ? order : order.toReversed());
      for (const one of lists) {
        one?.links.forEach((link, i) => {
          expect(files.cid(one.nodes[i])).toBe(formatLink(link));
        });
      }
      for (const node of known) files.forget(node, 1);
    }
  });

  it('has ids that are nobody else’s until it has been pushed', () => {
    const given = givenIn(allocateGiven());
    const served = serve([many], undefined, given);
    const { files } = served;
    const first = walk(served, ['d0', 'd1']);
    const underWay = new Set(first.lists.flatMap((one) => [...(one?.nodes ?? [])]));
    expect(underWay.size).toBeGreaterThan(10);
    given.begin();
    for (const node of first.known) files.forget(node, 1);
    const second = walk(served, ['d1', 'd3', 'd2']);
    expect(second.known.filter((node) => underWay.has(node))).toEqual([]);
    given.end();
    for (const node of second.known) files.forget(node, 1);
    const before = files.nodes();
    const third = walk(served, ['d3', 'd0']);
    expect(Math.max(...third.known)).toBeLessThanOrEqual(Math.max(...second.known));
    for (const node of third.known) files.forget(node, 1);
    expect(files.nodes()).toBe(before);
  });
});

describe('another process that goes on', () => {
  const deep = directory({
    sub: directory({ inner: file('inner'), 'name\udcff': directory({ x: file('x') }) }),
  });

  it('knows what was known, however much was forgotten before', () => {
    const served = serve([deep]);
    const { files } = served;
    const root = openRoot(served, 0);
    const sub = lookup(served, root, 'sub');
    // The journal is rewritten some times meanwhile.
    for (let round = 0; round < 150_000; round++) {
      const named = files.lookup(sub, nameToBytes('name\udcff'));
      files.remember(named);
      files.forget(named, 1);
    }
    const inner = lookup(served, sub, 'inner');
    const named = lookup(served, sub, 'name\udcff');
    const generation = { ...files.attributes(named) }.generation;
    served.restart();
    expect(files.describe(inner).path).toBe('sub/inner');
    expect(files.describe(named).path).toBe('sub/name\udcff');
    expect({ ...files.attributes(named) }.generation).toBe(generation);
    expect([lookup(served, sub, 'inner'), lookup(served, sub, 'name\udcff')]).toEqual([inner, named]);
    expect(files.nodes()).toBe(5);
  });

  it('reads a file that two roots have where the directory of one is not to be had', () => {
    let gone: Link | undefined;
    const specs = ['1', '2'].map((own) => directory({ same: file('same'), own: file(own) }));
    const served = serve(specs, (link) => link === gone);
    const nodes = specs.map((_, i) => {
      const root = openRoot(served, i);
      return list(served, root, 10).find(({ name }) => name === 'same')?.node as number;
    });
    expect(nodes[0]).toBe(nodes[1]);
    gone = served.roots[0];
    served.restart();
    expect(Buffer.concat(served.files.read(nodes[0], 0, 10)).toString()).toBe('same');
  });

  it('is refused another tree’s table', () => {
    const blocks = createBlocks({ get: () => undefined, getAll() {}, recycle() {}, async close() {} });
    const given = givenIn(allocateGiven());
    const memory = tableMemory();
    const open = (text: string) =>
      createTreeFileSystem(blocks, {
        view: { root: linkTo(DAG_CBOR, Buffer.from(text)) },
        given,
        table: openNodeTable(memory),
      });
    open('one');
    open('one');
    expect(() => open('another')).toThrow(NodeTableError);
  });
});

describe('inodes', () => {
  it('of many equal files in one tree are all different', () => {
    const names = Array.from({ length: 300_000 }, (_, i) => `src/module${i % 100}/part${i}/__init__.py`);
    const link = linkTo(RAW, Buffer.alloc(0));
    const seen = new Set(names.map((name) => inodeOf(pathHash(name), link)));
    expect(seen.size).toBe(names.length);
  });

  it('are the same in every process', () => {
    const spec = directory({ a: file('x') });
    const inode = () => {
      const served = serve([spec]);
      const node = lookup(served, openRoot(served, 0), 'a');
      return { ...served.files.attributes(node) }.inode;
    };
    expect(inode()).toBe(inode());
  });
});

describe('listing', () => {
  const spec = directory(Array.from({ length: 5000 }, (_, i) => [`name ${i}`, file(`${i}`)]));

  it.each([1, 2, 7, 255, 4096, 100_000])(
    'gives each entry of a sharded directory once, %i a page',
    (most) => {
      const served = serve([spec]);
      const names = list(served, openRoot(served, 0), most).map(({ name }) => name);
      expect(names).toEqual(['.', '..', ...[...spec.entries.keys()].sort(compareNames)]);
    },
  );

  it('ends at any offset beyond the end', () => {
    const served = serve([directory({ a: file('x') })]);
    const top = openRoot(served, 0);
    for (const offset of [3, 4, 1000, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      expect(page(served, top, offset, 10)).toEqual([]);
    }
  });

  it('opens a large directory by reading its index, and of its parts only those that are wanted', () => {
    const reads: Link[] = [];
    const served = serve([spec], (link) => {
      reads.push(link);
      return false;
    });
    const top = openRoot(served, 0);
    expect(reads).toHaveLength(1);
    lookup(served, top, 'name 4321');
    expect(reads).toHaveLength(2);
    lookup(served, top, 'name 4321');
    expect(reads).toHaveLength(2);
  });
});

describe('the directory that a walk comes to next', () => {
  /** More directories in one than are quickly gone through, and files before, between and after them. */
  const wide = Array.from({ length: 150 }, (_, i) => [
    `${i}`.padStart(3, '0'),
    i % 3 === 1 ? directory({ a: file(`${i}`), deep: directory({ b: file(`b${i}`) }) }) : file(`${i}`),
  ]);
  const spec = directory(Object.fromEntries(wide) as Record<string, TreeNode>);

  /** Reads that a walk through everything waits for; those of `openNext` are nobody's. */
  function walk(missing: (link: Link) => boolean = () => false) {
    let waited: Link[] = [];
    let unasked = 0;
    let waiting = true;
    const served = serve([spec], (link) => {
      if (waiting) waited.push(link);
      else unasked += 1;
      return missing(link);
    });
    const { files } = served;
    const openNext = files.openNext.bind(files);
    files.openNext = (node) => {
      waiting = false;
      openNext(node);
      waiting = true;
    };
    const seen: string[] = [];
    const visit = (node: number) => {
      for (const { name, node: child } of list(served, node, 1000).slice(2)) {
        const { path } = files.describe(child);
        seen.push(path);
        if ((files.attributes(child).mode & 0o170000) === 0o040000) visit(child);
        else expect(name).toBe(path.split('/').at(-1));
      }
    };
    const top = openRoot(served, 0);
    waited = [];
    visit(top);
    return { seen, waited: new Set(waited).size, unasked };
  }

  it('is open when it is asked for', () => {
    const { seen, waited, unasked } = walk();
    expect(seen).toHaveLength(150 + 50 * 3);
    // All but the top directory, once each.
    expect({ waited, unasked }).toEqual({ waited: 0, unasked: 100 });
  });

  it('is not fetched before somebody asks for it', () => {
    const { seen, waited } = walk(() => true);
    expect(seen).toHaveLength(150 + 50 * 3);
    expect(waited).toBeGreaterThanOrEqual(100);
  });
});

describe('what is not what it should be', () => {
  it('is an error of its own file', () => {
    const spec = directory({ good: file('good'), large: file(pseudoRandom(600_000)), small: file('small') });
    const served = serve([spec]);
    const top = openRoot(served, 0);
    const entries = Object.fromEntries(list(served, top, 10).map(({ name, node }) => [name, node]));
    const { link } = encodeNode('', spec.entries.get('large') as TreeNode, new Map()) as FileEntry;
    served.blocks.set(link, Buffer.from('not a file node'));
    expect(() => served.files.read(entries.large, 0, 10)).toThrow(InvalidNodeError);
    expect(Buffer.concat(served.files.read(entries.good, 0, 10)).toString()).toBe('good');
  });

  it('is an error of a lookup of a root that is no directory', () => {
    const served = serve([directory()]);
    const raw = linkTo(RAW, Buffer.from('x'));
    const absent = linkTo(DAG_CBOR, Buffer.from('x'));
    expect(served.files.lookup(TOP, Buffer.from(formatLink(raw)))).toBe(0);
    expect(served.files.lookup(TOP, Buffer.from('no CID'))).toBe(0);
    expect(() => served.files.lookup(TOP, Buffer.from(formatLink(absent)))).toThrow(MissingBlocks);
  });

  it('asks for all that a range lacks at once', () => {
    const content = pseudoRandom(2_000_000);
    const spec = directory({ large: file(content) });
    const chunks = new Set<Link>();
    let lacking = false;
    const served = serve([spec], (link) => lacking && linkCodec(link) === RAW);
    for (const link of served.blocks.keys()) if (linkCodec(link) === RAW) chunks.add(link);
    const node = lookup(served, openRoot(served, 0), 'large');
    lacking = true;
    let asked: readonly Link[] = [];
    try {
      served.files.read(node, 0, content.length);
    } catch (error) {
      asked = (error as MissingBlocks).links;
    }
    expect(new Set(asked)).toEqual(chunks);
    expect(asked).toHaveLength(chunks.size);
  });
});
