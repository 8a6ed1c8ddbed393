import { InvalidNodeError } from '../errors.js';
import { createCborReader, createCborWriter } from './cbor.js';
import { MAX_CHUNK } from './chunker.js';
import { endsGroup, MAX_GROUP, SINGLE_NODE_ITEMS } from './grouping.js';
import { MAX_INDEX_LEVELS } from './limits.js';
import { DAG_CBOR, digestOf, type Link, linkCodec, makeLink, RAW } from './link.js';

/** A chunk, or a file node one level down, and the content bytes under it. */
export interface FilePart {
  link: Link;
  size: number;
}

/** `{size, level, parts: [[link, size], …]}`; the parts of level 0 are chunks. */
export interface FileNode {
  level: number;
  size: number;
  parts: FilePart[];
}

export interface EncodedNode {
  link: Link;
  bytes: Buffer;
}

const writer = createCborWriter();

function sum(parts: readonly FilePart[]): number {
  let size = 0;
  for (const part of parts) size += part.size;
  return size;
}

function encode(level: number, parts: readonly FilePart[]): EncodedNode & FilePart {
  const size = sum(parts);
  writer.reset();
  writer.map(3);
  writer.text('size');
  writer.uint(size);
  writer.text('level');
  writer.uint(level);
  writer.text('parts');
  writer.array(parts.length);
  for (const part of parts) {
    writer.array(2);
    writer.link(part.link);
    writer.uint(part.size);
  }
  const bytes = writer.take();
  return { link: makeLink(DAG_CBOR, digestOf(bytes)), bytes, size };
}

/** The nodes of a file with these chunks, of which there are at least two; the top node comes last. */
export function encodeFile(chunks: readonly FilePart[]): EncodedNode[] {
  const nodes: EncodedNode[] = [];
  let parts = chunks;
  for (let level = 0; parts.length > 1; level++) {
    const groups = parts.length <= SINGLE_NODE_ITEMS ? [parts] : group(parts);
    const above: FilePart[] = [];
    for (const members of groups) {
      const { link, bytes, size } = encode(level, members);
      nodes.push({ link, bytes });
      above.push({ link, size });
    }
    parts = above;
  }
  return nodes;
}

function group(parts: readonly FilePart[]): FilePart[][] {
  const groups: FilePart[][] = [];
  let current: FilePart[] = [];
  for (const part of parts) {
    current.push(part);
    const { link } = part;
    const hash = (link.charCodeAt(1) << 8) | link.charCodeAt(2);
    if (endsGroup(hash, current.length, 0)) {
      groups.push(current);
      current = [];
    }
  }
  if (current.length > 0) groups.push(current);
  return groups;
}

/** @throws InvalidNodeError */
export function decodeFileNode(bytes: Uint8Array): FileNode {
  const reader = createCborReader(bytes);
  if (reader.map() !== 3) throw new InvalidNodeError('a file node has three fields');
  reader.key('size');
  const size = reader.uint();
  reader.key('level');
  const level = reader.uint();
  if (level > MAX_INDEX_LEVELS) throw new InvalidNodeError(`file level ${level}`);
  reader.key('parts');
  const count = reader.array();
  if (count === 0 || count > MAX_GROUP) throw new InvalidNodeError(`a file node of ${count} parts`);
  const codec = level === 0 ? RAW : DAG_CBOR;
  const parts: FilePart[] = [];
  for (let i = 0; i < count; i++) {
    if (reader.array() !== 2) throw new InvalidNodeError('a part that is not a pair');
    const part = { link: reader.link(), size: reader.uint() };
    if (linkCodec(part.link) !== codec) throw new InvalidNodeError('a part of the wrong codec');
    if (part.size === 0 || (level === 0 && part.size > MAX_CHUNK)) {
      throw new InvalidNodeError(`a part of ${part.size} bytes`);
    }
    parts.push(part);
  }
  reader.end();
  if (sum(parts) !== size) throw new InvalidNodeError('parts that do not add up to the size');
  return { level, size, parts };
}
