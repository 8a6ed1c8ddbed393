import { InvalidNodeError } from '../errors.js';
import { createCborReader, createCborWriter } from './cbor.js';
import type { EncodedNode } from './file-node.js';
import { MAX_SNAPSHOT_PARENTS, MAX_SNAPSHOT_TEXT_BYTES } from './limits.js';
import { DAG_CBOR, digestOf, type Link, linkCodec, makeLink } from './link.js';

/**
 * History beside a root, never part of it: `{root, time, source, message, parents}`. The same tree saved twice
 * has one root and two snapshots.
 */
export interface Snapshot {
  root: Link;
  /** Milliseconds since the epoch. */
  time: number;
  /** Where the tree came from, as the user would name it. */
  source: string;
  message: string;
  /** The snapshots that this one follows. */
  parents: Link[];
}

export function encodeSnapshot(snapshot: Snapshot): EncodedNode {
  const writer = createCborWriter();
  writer.map(5);
  writer.text('root');
  writer.link(snapshot.root);
  writer.text('time');
  writer.uint(snapshot.time);
  writer.text('source');
  writer.name(snapshot.source);
  writer.text('message');
  writer.name(snapshot.message);
  writer.text('parents');
  writer.array(snapshot.parents.length);
  for (const parent of snapshot.parents) writer.link(parent);
  const bytes = writer.take();
  return { link: makeLink(DAG_CBOR, digestOf(bytes)), bytes };
}

/** @throws InvalidNodeError */
export function decodeSnapshot(bytes: Uint8Array): Snapshot {
  const reader = createCborReader(bytes);
  if (reader.map() !== 5) throw new InvalidNodeError('a snapshot has five fields');
  reader.key('root');
  const root = reader.link();
  reader.key('time');
  const time = reader.uint();
  reader.key('source');
  const source = reader.name(MAX_SNAPSHOT_TEXT_BYTES);
  reader.key('message');
  const message = reader.name(MAX_SNAPSHOT_TEXT_BYTES);
  reader.key('parents');
  const count = reader.array();
  if (count > MAX_SNAPSHOT_PARENTS) throw new InvalidNodeError(`a snapshot with ${count} parents`);
  const parents: Link[] = [];
  for (let i = 0; i < count; i++) parents.push(reader.link());
  reader.end();
  if ([root, ...parents].some((link) => linkCodec(link) !== DAG_CBOR)) {
    throw new InvalidNodeError('a snapshot that links to content');
  }
  return { root, time, source, message, parents };
}
