import {
  type BlockStore,
  type Change,
  compareNames,
  createMemoryStore,
  DAG_CBOR,
  diffTrees,
  type Entry,
  encodeDirectory,
  faultInjecting,
  type Link,
  linkTo,
  RAW,
  resolvePath,
  walkTree,
} from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  collect,
  type DirectorySpec,
  directory,
  errorOf,
  file,
  printable,
  sha256,
  symlink,
  type TreeNode,
  treeArbitrary,
} from './helpers.js';

/** Puts a tree into a store without a file system; content is not stored, since a diff never reads any. */
async function put(store: BlockStore, spec: DirectorySpec): Promise<Link> {
  return (await putDirectory(store, spec)).link;
}

async function putDirectory(store: BlockStore, spec: DirectorySpec) {
  const entries: Entry[] = [];
  for (const [name, node] of spec.entries) entries.push(await entryOf(store, name, node));
  entries.sort((a, b) => compareNames(a.name, b.name));
  const encoded = encodeDirectory(entries);
  for (const node of encoded.nodes) await store.put(node);
  return encoded;
}

async function entryOf(store: BlockStore, name: string, node: TreeNode): Promise<Entry> {
  if (node.kind === 'symlink') return { kind: 'symlink', name, target: node.target };
  if (node.kind === 'directory') {
    const { link, size, files } = await putDirectory(store, node);
    return { kind: 'directory', name, link, size, files };
  }
  // Content larger than a chunk would need a file node, which has no part in a diff.
  const link = linkTo(node.content.length > 262_144 ? DAG_CBOR : RAW, node.content);
  return { kind: node.executable ? 'executable' : 'file', name, link, size: node.content.length };
}

/** What tells two entries apart, but for what is below a directory. */
const key = (entry: Entry) =>
  JSON.stringify(entry.kind === 'directory' ? { kind: entry.kind, metadata: entry.metadata } : entry);

async function flat(store: BlockStore, root: Link): Promise<Map<string, string>> {
  return new Map((await collect(walkTree(store, root))).map(({ path, entry }) => [path, key(entry)]));
}

const summary = ({ path, change, from, to }: Change) =>
  `${change} ${printable(path)} ${from?.kind ?? '-'} ${to?.kind ?? '-'}`;

async function counting() {
  const memory = createMemoryStore();
  const read: Link[] = [];
  const store = faultInjecting(memory, {
    before(operation, link) {
      if (operation === 'get' && link) read.push(link);
    },
  });
  return { memory, store, read };
}

describe('the changes between two trees', () => {
  it('make one of the other', async () => {
    await fc.assert(
      fc.asyncProperty(treeArbitrary(), treeArbitrary(), async (a, b) => {
        const store = createMemoryStore();
        // Some of a is in b as it is, as in trees that follow one another.
        for (const [name, node] of a.entries) if (sha256(name)[0] < '9') b.entries.set(name, node);
        const [from, to] = [await put(store, a), await put(store, b)];
        const model = await flat(store, from);
        const wanted = await flat(store, to);
        const seen = new Set<string>();
        for (const { path, change, from: was, to: is } of await collect(diffTrees(store, from, to))) {
          expect(seen.has(path), `${path} comes once`).toBe(false);
          seen.add(path);
          expect(model.get(path)).toBe(was && key(was));
          expect(wanted.get(path)).toBe(is && key(is));
          expect(Boolean(was && is)).toBe(change === 'modified' || change === 'type');
          if (is) model.set(path, key(is));
          else model.delete(path);
        }
        expect([...model].sort()).toEqual([...wanted].sort());
      }),
      { numRuns: 200 },
    );
  });

  it('are of the kinds that they are', async () => {
    const store = createMemoryStore();
    const from = directory({
      same: file('same'),
      edited: file('1'),
      mode: file('m'),
      gone: file('gone'),
      'gone-dir': directory({ a: file('a'), b: directory({ c: file('c') }) }),
      link: symlink('a'),
      'file-to-link': file('x'),
      'file-to-dir': file('x'),
      'dir-to-file': directory({ a: file('a') }),
      'dir-to-link': directory({ a: file('a') }),
      'same-dir': directory({ deep: directory({ x: file('1') }) }),
    });
    const to = directory({
      same: file('same'),
      edited: file('2'),
      mode: file('m', true),
      new: file('new'),
      'new-dir': directory({ a: file('a'), empty: directory() }),
      link: symlink('b'),
      'file-to-link': symlink('x'),
      'file-to-dir': directory({ y: file('y') }),
      'dir-to-file': file('f'),
      'dir-to-link': symlink('l'),
      'same-dir': directory({ deep: directory({ x: file('2') }) }),
    });
    const changes = await collect(diffTrees(store, await put(store, from), await put(store, to)));
    expect(changes.map(summary)).toEqual([
      'type dir-to-file directory file',
      'removed dir-to-file/a file -',
      'type dir-to-link directory symlink',
      'removed dir-to-link/a file -',
      'modified edited file file',
      'type file-to-dir file directory',
      'added file-to-dir/y - file',
      'type file-to-link file symlink',
      'removed gone file -',
      'removed gone-dir directory -',
      'removed gone-dir/a file -',
      'removed gone-dir/b directory -',
      'removed gone-dir/b/c file -',
      'modified link symlink symlink',
      'modified mode file executable',
      'added new - file',
      'added new-dir - directory',
      'added new-dir/a - file',
      'added new-dir/empty - directory',
      'modified same-dir/deep/x file file',
    ]);
  });

  it('of metadata and origins count as well', async () => {
    const store = createMemoryStore();
    const of = async (entries: Entry[]) => {
      const { nodes, link } = encodeDirectory(entries);
      for (const node of nodes) await store.put(node);
      return link;
    };
    const empty = await of([]);
    const metadata = { mode: 0o644, seconds: 1, nanoseconds: 2 };
    const common = { kind: 'origin', of: 'directory', driver: 'npm', reference: 'x@1' } as const;
    const before: Entry[] = [
      { kind: 'directory', name: 'd', link: empty, size: 0, files: 0, metadata },
      { kind: 'file', name: 'f', link: linkTo(RAW, Buffer.from('x')), size: 1, metadata },
      ...['o1', 'o2', 'o3', 'o4', 'o5', 'o6'].map((name): Entry => ({ ...common, name })),
    ];
    const after: Entry[] = [
      { ...before[0], metadata: { ...metadata, nanoseconds: 3 } } as Entry,
      { ...before[1], metadata: { ...metadata, mode: 0o600 } } as Entry,
      { ...common, name: 'o1', reference: 'x@2' },
      { ...common, name: 'o2', integrity: 'sha512-x' },
      { ...common, name: 'o3', plus: empty },
      { ...common, name: 'o4', driver: 'git' },
      { ...common, name: 'o5', of: 'file' },
      { ...common, name: 'o6' },
    ];
    const changes = await collect(diffTrees(store, await of(before), await of(after)));
    expect(changes.map(({ path, change }) => `${change} ${path}`)).toEqual([
      'modified d',
      'modified f',
      'modified o1',
      'modified o2',
      'modified o3',
      'modified o4',
      'modified o5',
    ]);
  });
});

describe('a diff reads only what differs', () => {
  const numbered = (count: number, edit: Record<number, string> = {}) =>
    directory(
      Array.from({ length: count }, (_, i): [string, TreeNode] => [
        `file-${String(i).padStart(6, '0')}`,
        file(edit[i] ?? String(i)),
      ]),
    );

  it('nothing, of two roots that are one', async () => {
    const { memory, store, read } = await counting();
    const root = await put(memory, numbered(3000));
    expect(await collect(diffTrees(store, root, root))).toEqual([]);
    expect(read).toEqual([]);
  });

  it('a handful of blocks, of two directories of 100,000 entries that differ in one', async () => {
    const { memory, store, read } = await counting();
    const from = await put(memory, numbered(100_000));
    const to = await put(memory, numbered(100_000, { 54321: 'edited' }));
    const changes = await collect(diffTrees(store, from, to));
    expect(changes.map(summary)).toEqual(['modified file-054321 file file']);
    expect(read.length).toBeLessThanOrEqual(4);
  });

  it('a handful of blocks, when an entry was added and one removed', async () => {
    const { memory, store, read } = await counting();
    const before = numbered(50_000);
    const after = numbered(50_000);
    after.entries.delete('file-000777');
    after.entries.set('file-040000-new', file('new'));
    const changes = await collect(diffTrees(store, await put(memory, before), await put(memory, after)));
    expect(changes.map(summary)).toEqual(['removed file-000777 file -', 'added file-040000-new - file']);
    expect(read.length).toBeLessThanOrEqual(12);
  });

  it('one way down, of two deep trees that differ in one leaf', async () => {
    const nested = (depth: number, leaf: string): DirectorySpec =>
      depth === 0
        ? directory({ leaf: file(leaf) })
        : directory({
            ...Object.fromEntries(
              Array.from({ length: 10 }, (_, i) => [`d${i}`, directory({ [`${depth}-${i}`]: file('x') })]),
            ),
            down: nested(depth - 1, leaf),
          });
    const { memory, store, read } = await counting();
    const [from, to] = [await put(memory, nested(20, '1')), await put(memory, nested(20, '2'))];
    const changes = await collect(diffTrees(store, from, to));
    expect(changes.map(({ path }) => path)).toEqual([`${'down/'.repeat(20)}leaf`]);
    expect(read.length).toBe(42);
  });

  it('both ways across the limit of one node', async () => {
    const store = createMemoryStore();
    const small = await put(store, numbered(2048));
    const large = await put(store, numbered(2049));
    expect((await collect(diffTrees(store, small, large))).map(summary)).toEqual([
      'added file-002048 - file',
    ]);
    expect((await collect(diffTrees(store, large, small))).map(summary)).toEqual([
      'removed file-002048 file -',
    ]);
    const empty = await put(store, directory());
    expect((await collect(diffTrees(store, empty, large))).length).toBe(2049);
  });
});

describe('a diff that cannot be', () => {
  it('fails when a block is missing, and when it is called off', async () => {
    const store = createMemoryStore();
    const from = await put(store, directory({ d: directory({ a: file('1') }) }));
    const to = await put(store, directory({ d: directory({ a: file('2') }) }));
    const reason = new Error('enough');
    expect(await errorOf(collect(diffTrees(store, from, to, { signal: AbortSignal.abort(reason) })))).toBe(
      reason,
    );
    const inner = await resolvePath(store, to, 'd');
    await store.delete([(inner as { link: Link }).link]);
    expect(await errorOf(collect(diffTrees(store, from, to)))).toMatchObject({ code: 'BLOCK_MISSING' });
  });
});
