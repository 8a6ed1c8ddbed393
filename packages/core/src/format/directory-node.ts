import { InvalidNodeError, LazytreeError } from '../errors.js';
import { type CborReader, type CborWriter, createCborReader, createCborWriter } from './cbor.js';
import { MAX_CHUNK } from './chunker.js';
import {
  addTotals,
  countEntry,
  type Entry,
  type Metadata,
  MODE_MASK,
  type OriginEntry,
  type Totals,
} from './entry.js';
import type { EncodedNode } from './file-node.js';
import { endsGroup, hashName, MAX_GROUP, MAX_GROUP_BYTES, SINGLE_NODE_ITEMS } from './grouping.js';
import { MAX_INDEX_LEVELS, MAX_NAME_BYTES, MAX_ORIGIN_TEXT_BYTES, MAX_TARGET_BYTES } from './limits.js';
import { DAG_CBOR, digestOf, type Link, linkCodec, makeLink, RAW } from './link.js';
import { compareNames, nameProblem, nameToBytes } from './name.js';

/** A directory, or one shard of a large one: `{dir: [entry, …], size, files}`, entries in byte order of name. */
export interface DirectoryLeaf extends Totals {
  kind: 'leaf';
  entries: Entry[];
}

/** A leaf or an index one level down. */
export interface Shard extends Totals {
  /** Name of the first entry below. */
  first: string;
  link: Link;
  /** Entries below, of this directory alone. */
  count: number;
}

/** The top of a large directory: `{size, files, level, shards: [[first, link, size, files, count], …]}`. */
export interface DirectoryIndex extends Totals {
  kind: 'index';
  /** 1 when the shards are leaves. */
  level: number;
  shards: Shard[];
}

export type DirectoryNode = DirectoryLeaf | DirectoryIndex;

export interface EncodedDirectory extends Totals {
  link: Link;
  /** The directory's nodes, the top one last. */
  nodes: EncodedNode[];
}

const KIND_CODE = { file: 0, executable: 1, symlink: 2, directory: 3, origin: 4 } as const;

const entriesWriter = createCborWriter();
const nodeWriter = createCborWriter();

function encodeMetadata(writer: CborWriter, { mode, seconds, nanoseconds }: Metadata): void {
  writer.array(3);
  writer.uint(mode & MODE_MASK);
  writer.int(seconds);
  writer.uint(nanoseconds);
}

const FIELDS = { file: 4, executable: 4, symlink: 3, directory: 5, origin: 7 } as const;

function encodeEntry(writer: CborWriter, entry: Entry): void {
  const problem = entryProblem(entry);
  if (problem) throw new LazytreeError('UNSUPPORTED', `a directory cannot hold ${problem}`);
  writer.array(FIELDS[entry.kind] + (entry.metadata ? 1 : 0));
  writer.name(entry.name);
  writer.uint(KIND_CODE[entry.kind]);
  switch (entry.kind) {
    case 'file':
    case 'executable':
      writer.link(entry.link);
      writer.uint(entry.size);
      break;
    case 'symlink':
      writer.name(entry.target);
      break;
    case 'directory':
      writer.link(entry.link);
      writer.uint(entry.size);
      writer.uint(entry.files);
      break;
    case 'origin':
      writer.uint(KIND_CODE[entry.of]);
      writer.text(entry.driver);
      writer.text(entry.reference);
      if (entry.integrity === undefined) writer.nothing();
      else writer.text(entry.integrity);
      if (entry.plus === undefined) writer.nothing();
      else writer.link(entry.plus);
      break;
  }
  if (entry.metadata) encodeMetadata(writer, entry.metadata);
}

/** Why no decoder would take the entry, or undefined. */
function entryProblem(entry: Entry): string | undefined {
  const { name } = entry;
  const problem = nameProblem(name);
  if (problem) return problem;
  if (isLonger(name, MAX_NAME_BYTES)) return `a name of more than ${MAX_NAME_BYTES} bytes`;
  if (entry.kind === 'symlink') return targetProblem(entry.target);
  return entry.kind === 'origin' ? originProblem(entry) : undefined;
}

function targetProblem(target: string): string | undefined {
  if (target === '' || target.includes('\0')) return 'a symlink with an impossible target';
  return isLonger(target, MAX_TARGET_BYTES)
    ? `a symlink target of more than ${MAX_TARGET_BYTES} bytes`
    : undefined;
}

function originProblem({ of, driver, reference, integrity = '', plus }: OriginEntry): string | undefined {
  if (driver === '') return 'an origin without a driver';
  if (plus && of === 'file') return 'an origin file with entries laid over it';
  const long = [driver, reference, integrity].some((text) => isLonger(text, MAX_ORIGIN_TEXT_BYTES));
  return long ? `an origin text of more than ${MAX_ORIGIN_TEXT_BYTES} bytes` : undefined;
}

/** A character is at most three bytes for each of its UTF-16 units. */
function isLonger(text: string, bytes: number): boolean {
  return text.length * 3 > bytes && nameBytes(text) > bytes;
}

function finish(bytes: Buffer): EncodedNode {
  return { link: makeLink(DAG_CBOR, digestOf(bytes)), bytes };
}

function encodeLeaf(encoded: Uint8Array, count: number, totals: Totals): EncodedNode {
  nodeWriter.reset();
  nodeWriter.map(3);
  nodeWriter.text('dir');
  nodeWriter.array(count);
  nodeWriter.raw(encoded);
  nodeWriter.text('size');
  nodeWriter.uint(totals.size);
  nodeWriter.text('files');
  nodeWriter.uint(totals.files);
  return finish(nodeWriter.take());
}

function encodeIndex(level: number, shards: readonly Shard[], totals: Totals): EncodedNode {
  nodeWriter.reset();
  nodeWriter.map(4);
  nodeWriter.text('size');
  nodeWriter.uint(totals.size);
  nodeWriter.text('files');
  nodeWriter.uint(totals.files);
  nodeWriter.text('level');
  nodeWriter.uint(level);
  nodeWriter.text('shards');
  nodeWriter.array(shards.length);
  for (const shard of shards) encodeShard(nodeWriter, shard);
  return finish(nodeWriter.take());
}

function encodeShard(writer: CborWriter, shard: Shard): void {
  writer.array(5);
  writer.name(shard.first);
  writer.link(shard.link);
  writer.uint(shard.size);
  writer.uint(shard.files);
  writer.uint(shard.count);
}

/**
 * Encodes a directory.
 *
 * @param entries in byte order of name, without duplicates (see {@link compareNames})
 */
export function encodeDirectory(entries: readonly Entry[]): EncodedDirectory {
  return encodeSmall(entries) ?? encodeSharded(entries);
}

function encodeSmall(entries: readonly Entry[]): EncodedDirectory | undefined {
  if (entries.length > SINGLE_NODE_ITEMS) return undefined;
  const totals = { size: 0, files: 0 };
  entriesWriter.reset();
  for (const entry of entries) {
    addTotals(totals, entry);
    encodeEntry(entriesWriter, entry);
    if (entriesWriter.length() > MAX_GROUP_BYTES) return undefined;
  }
  const node = encodeLeaf(entriesWriter.take(), entries.length, totals);
  return { link: node.link, nodes: [node], ...totals };
}

function encodeSharded(entries: readonly Entry[]): EncodedDirectory {
  const nodes: EncodedNode[] = [];
  let shards: Shard[] = [];
  let totals = { size: 0, files: 0 };
  let from = 0;
  entriesWriter.reset();
  for (let i = 0; i < entries.length; i++) {
    const { name } = entries[i];
    addTotals(totals, entries[i]);
    encodeEntry(entriesWriter, entries[i]);
    const count = i + 1 - from;
    if (i + 1 < entries.length && !endsGroup(hashName(name), count, entriesWriter.length())) continue;
    const node = encodeLeaf(entriesWriter.take(), count, totals);
    nodes.push(node);
    shards.push({ first: entries[from].name, link: node.link, count, ...totals });
    totals = { size: 0, files: 0 };
    from = i + 1;
    entriesWriter.reset();
  }
  let level = 1;
  for (; shards.length > SINGLE_NODE_ITEMS; level++) shards = encodeLevel(level, shards, nodes);
  const all = { size: 0, files: 0 };
  for (const shard of shards) {
    all.size += shard.size;
    all.files += shard.files;
  }
  const top = encodeIndex(level, shards, all);
  nodes.push(top);
  return { link: top.link, nodes, ...all };
}

/** Groups the shards of a very large directory under indexes one level up. */
function encodeLevel(level: number, shards: readonly Shard[], nodes: EncodedNode[]): Shard[] {
  const above: Shard[] = [];
  let members: Shard[] = [];
  let sum = { size: 0, files: 0, count: 0 };
  entriesWriter.reset();
  shards.forEach((shard, i) => {
    members.push(shard);
    encodeShard(entriesWriter, shard);
    sum.size += shard.size;
    sum.files += shard.files;
    sum.count += shard.count;
    const bytes = entriesWriter.length();
    if (i + 1 < shards.length && !endsGroup(hashName(shard.first), members.length, bytes)) return;
    entriesWriter.reset();
    const node = encodeIndex(level, members, sum);
    nodes.push(node);
    above.push({ first: members[0].first, link: node.link, ...sum });
    members = [];
    sum = { size: 0, files: 0, count: 0 };
  });
  return above;
}

/** @throws InvalidNodeError for anything but the one valid encoding of a directory node */
export function decodeDirectoryNode(bytes: Uint8Array): DirectoryNode {
  const reader = createCborReader(bytes);
  const fields = reader.map();
  if (fields === 3) return decodeLeaf(reader);
  if (fields === 4) return decodeIndex(reader);
  throw new InvalidNodeError(`a directory node with ${fields} fields`);
}

function decodeLeaf(reader: CborReader): DirectoryLeaf {
  reader.key('dir');
  const count = boundedCount(reader);
  const entries: Entry[] = [];
  const totals = { size: 0, files: 0 };
  for (let i = 0; i < count; i++) {
    const entry = decodeEntry(reader);
    if (i > 0 && compareNames(entries[i - 1].name, entry.name) >= 0) {
      throw new InvalidNodeError(`entry '${entry.name}' out of order or twice`);
    }
    countEntry(totals, entry);
    entries.push(entry);
  }
  reader.key('size');
  const size = reader.uint();
  reader.key('files');
  const files = reader.uint();
  reader.end();
  if (size !== totals.size || files !== totals.files) {
    throw new InvalidNodeError('totals that are not those of the entries');
  }
  return { kind: 'leaf', entries, size, files };
}

function boundedCount(reader: CborReader): number {
  const count = reader.array();
  if (count > MAX_GROUP) throw new InvalidNodeError(`${count} entries in one node, more than ${MAX_GROUP}`);
  return count;
}

function decodeIndex(reader: CborReader): DirectoryIndex {
  reader.key('size');
  const size = reader.uint();
  reader.key('files');
  const files = reader.uint();
  reader.key('level');
  const level = reader.uint();
  if (level < 1 || level > MAX_INDEX_LEVELS) throw new InvalidNodeError(`directory level ${level}`);
  reader.key('shards');
  const count = boundedCount(reader);
  const shards: Shard[] = [];
  const totals = { size: 0, files: 0 };
  for (let i = 0; i < count; i++) {
    if (reader.array() !== 5) throw new InvalidNodeError('a shard without its five fields');
    const shard = {
      first: decodeName(reader),
      link: directoryLink(reader),
      size: reader.uint(),
      files: reader.uint(),
      count: reader.uint(),
    };
    if (i > 0 && compareNames(shards[i - 1].first, shard.first) >= 0) {
      throw new InvalidNodeError(`shard '${shard.first}' out of order`);
    }
    if (shard.count === 0) throw new InvalidNodeError('an empty shard');
    totals.size += shard.size;
    totals.files += shard.files;
    shards.push(shard);
  }
  reader.end();
  if (count === 0) throw new InvalidNodeError('an index without shards');
  if (size !== totals.size || files !== totals.files) {
    throw new InvalidNodeError('totals that are not those of the shards');
  }
  return { kind: 'index', level, shards, size, files };
}

function decodeName(reader: CborReader): string {
  const name = reader.name(MAX_NAME_BYTES);
  const problem = nameProblem(name);
  if (problem) throw new InvalidNodeError(`an entry with ${problem}`);
  return name;
}

function directoryLink(reader: CborReader): Link {
  const link = reader.link();
  if (linkCodec(link) !== DAG_CBOR) throw new InvalidNodeError('a directory that is not dag-cbor');
  return link;
}

function decodeEntry(reader: CborReader): Entry {
  const fields = reader.array();
  const name = decodeName(reader);
  const code = reader.uint();
  const kind = (['file', 'executable', 'symlink', 'directory', 'origin'] as const)[code];
  if (kind === undefined) throw new InvalidNodeError(`entry '${name}' of unknown kind ${code}`);
  const extra = fields - FIELDS[kind];
  if (extra !== 0 && extra !== 1) throw new InvalidNodeError(`entry '${name}' with ${fields} fields`);
  const entry = decodeKind(reader, kind, name);
  if (extra === 1) entry.metadata = decodeMetadata(reader);
  return entry;
}

function decodeKind(reader: CborReader, kind: Entry['kind'], name: string): Entry {
  switch (kind) {
    case 'file':
    case 'executable': {
      const link = reader.link();
      const size = reader.uint();
      if (linkCodec(link) === RAW && size > MAX_CHUNK) {
        throw new InvalidNodeError(`'${name}' is one chunk of ${size} bytes`);
      }
      return { kind, name, link, size };
    }
    case 'symlink': {
      const target = reader.name(MAX_TARGET_BYTES);
      if (target === '' || target.includes('\0')) {
        throw new InvalidNodeError(`symlink '${name}' with an impossible target`);
      }
      return { kind, name, target };
    }
    case 'directory':
      return { kind, name, link: directoryLink(reader), size: reader.uint(), files: reader.uint() };
    case 'origin':
      return decodeOrigin(reader, name);
  }
}

function decodeOrigin(reader: CborReader, name: string): Entry {
  const code = reader.uint();
  if (code !== KIND_CODE.file && code !== KIND_CODE.directory) {
    throw new InvalidNodeError(`origin '${name}' of kind ${code}`);
  }
  const entry: Entry = {
    kind: 'origin',
    name,
    of: code === KIND_CODE.file ? 'file' : 'directory',
    driver: reader.text(MAX_ORIGIN_TEXT_BYTES),
    reference: reader.text(MAX_ORIGIN_TEXT_BYTES),
  };
  if (entry.driver === '') throw new InvalidNodeError(`origin '${name}' without a driver`);
  if (!reader.nothing()) entry.integrity = reader.text(MAX_ORIGIN_TEXT_BYTES);
  if (!reader.nothing()) entry.plus = directoryLink(reader);
  if (entry.plus && entry.of === 'file')
    throw new InvalidNodeError(`origin file '${name}' with entries laid over it`);
  return entry;
}

function decodeMetadata(reader: CborReader): Metadata {
  if (reader.array() !== 3) throw new InvalidNodeError('metadata without its three fields');
  const metadata = { mode: reader.uint(), seconds: reader.int(), nanoseconds: reader.uint() };
  if ((metadata.mode & ~MODE_MASK) !== 0 || metadata.mode > MODE_MASK) {
    throw new InvalidNodeError(`mode ${metadata.mode.toString(8)}`);
  }
  if (metadata.nanoseconds >= 1e9) throw new InvalidNodeError(`${metadata.nanoseconds} nanoseconds`);
  return metadata;
}

/** Bytes that a name takes; the encoder of an import refuses longer ones than {@link MAX_NAME_BYTES}. */
export function nameBytes(name: string): number {
  return name.isWellFormed() ? Buffer.byteLength(name) : nameToBytes(name).length;
}
