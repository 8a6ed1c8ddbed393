import { InvalidNodeError, LazytreeError } from '../errors.js';
import { createCborReader, createCborWriter } from './cbor.js';
import type { EncodedNode } from './file-node.js';
import { MAX_SNAPSHOT_PARENTS, MAX_SNAPSHOT_TEXT_BYTES } from './limits.js';
import { DAG_CBOR, digestOf, type Link, linkCodec, makeLink } from './link.js';
import { nameToBytes } from './name.js';

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

/** @throws LazytreeError USAGE for a message, a source or a number of parents beyond the limits */
export function encodeSnapshot(snapshot: Snapshot): EncodedNode {
  for (const [what, text] of [
    ['message', snapshot.message],
    ['source', snapshot.source],
  ]) {
    if (nameToBytes(text).length > MAX_SNAPSHOT_TEXT_BYTES) {
      throw new LazytreeError(
        'USAGE',
        `the ${what} of a snapshot has more than ${MAX_SNAPSHOT_TEXT_BYTES} bytes`,
      );
    }
  }
  if (snapshot.parents.length > MAX_SNAPSHOT_PARENTS) {
    throw new LazytreeError('USAGE', `a snapshot of ${snapshot.parents.length} parents`);
  }
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
