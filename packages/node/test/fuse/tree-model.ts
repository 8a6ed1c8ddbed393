import {
  chunkEnd,
  compareNames,
  type Entry,
  encodeDirectory,
  encodeFile,
  type FilePart,
  type Link,
  linkTo,
  MAX_CHUNK,
  RAW,
} from '@lazytree/core';
import fc from 'fast-check';
import {
  type DirectorySpec,
  directory,
  file,
  nameArbitrary,
  pseudoRandom,
  symlink,
  type TreeNode,
} from '../../../core/test/helpers.ts';

/** Blocks by link. */
export type BlockMap = Map<Link, Uint8Array>;

export type EncodedSpec = Entry & { kind: 'directory' };

/** The blocks of what a spec describes, without a disk. */
export function encodeSpec(spec: DirectorySpec, blocks: BlockMap, name = ''): EncodedSpec {
  const names = [...spec.entries.keys()].sort(compareNames);
  const entries = names.map((inner) => encodeNode(inner, spec.entries.get(inner) as TreeNode, blocks));
  const { link, nodes, size, files } = encodeDirectory(entries);
  for (const node of nodes) blocks.set(node.link, node.bytes);
  return { kind: 'directory', name, link, size, files };
}

export function encodeNode(name: string, node: TreeNode, blocks: BlockMap): Entry {
  if (node.kind === 'directory') return encodeSpec(node, blocks, name);
  if (node.kind === 'symlink') return { kind: 'symlink', name, target: node.target };
  const { content, executable } = node;
  const kind = executable ? 'executable' : 'file';
  return { kind, name, link: encodeContent(content, blocks), size: content.length };
}

function encodeContent(content: Buffer, blocks: BlockMap): Link {
  const chunks: FilePart[] = [];
  let start = 0;
  do {
    const end = content.length <= MAX_CHUNK ? content.length : chunkEnd(content, start, content.length);
    const bytes = content.subarray(start, end);
    const link = linkTo(RAW, bytes);
    blocks.set(link, bytes);
    chunks.push({ link, size: bytes.length });
    start = end;
  } while (start < content.length);
  if (chunks.length === 1) return chunks[0].link;
  const nodes = encodeFile(chunks);
  for (const node of nodes) blocks.set(node.link, node.bytes);
  return nodes[nodes.length - 1].link;
}

const LARGE = pseudoRandom(600_000, 7);

/** Few names and few contents, so that trees have much in common. */
const leafArbitrary: fc.Arbitrary<TreeNode> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.constantFrom('', 'one', 'two', 'three'), fc.boolean())
      .map(([content, x]) => file(content, x)),
  },
  { weight: 1, arbitrary: fc.constant(file(LARGE)) },
  { weight: 2, arbitrary: fc.constantFrom('a', '../b', 'caf\udce9', 'x'.repeat(4095)).map(symlink) },
);

function treeArbitrary(depth: number): fc.Arbitrary<DirectorySpec> {
  const below = depth === 0 ? leafArbitrary : fc.oneof(leafArbitrary, treeArbitrary(depth - 1));
  const name = fc.oneof({ weight: 3, arbitrary: fc.constantFrom('a', 'b', 'c', 'd') }, nameArbitrary);
  return fc.array(fc.tuple(name, below), { maxLength: 6 }).map((entries) => directory(new Map(entries)));
}

/** A directory of several nodes: with up to 2048 entries it would be one. */
function largeDirectory(count: number, changed: number): DirectorySpec {
  const entries: [string, TreeNode][] = [];
  for (let i = 0; i < count; i++) {
    const name = `entry ${i}`;
    if (i % 500 === 3) entries.push([name, directory({ inner: file(`${i}`) })]);
    else if (i % 500 === 4) entries.push([name, symlink(`${i}`)]);
    else entries.push([name, file(i === changed ? 'changed' : `${i % 7}`)]);
  }
  return directory(entries);
}

/** Some trees that are alike here and there. */
export const treesArbitrary: fc.Arbitrary<DirectorySpec[]> = fc
  .record({
    common: treeArbitrary(2),
    own: fc.array(treeArbitrary(2), { minLength: 1, maxLength: 3 }),
    large: fc.option(fc.integer({ min: 2049, max: 3500 }), { freq: 3 }),
  })
  .map(({ common, own, large }) =>
    own.map((tree, i) => {
      const entries = new Map([...common.entries, ...tree.entries]);
      entries.set('common', common);
      if (large !== null) entries.set('large', largeDirectory(large, i * 100));
      return directory(entries);
    }),
  );
