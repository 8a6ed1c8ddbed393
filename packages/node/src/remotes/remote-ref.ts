import { formatLink, LazytreeError, type Link, parseLink } from '@lazytree/core';
import * as z from 'zod/mini';
import { type KeepPolicy, selectKept } from '../workspaces/thinning.js';
import { REFS, refName } from './object-names.js';
import { readObject } from './read-object.js';
import { parseJson } from './root-manifest.js';
import type { Storage } from './storage/storage.js';

/** What was pushed under a name at one time. */
export interface RemoteSnapshot {
  root: Link;
  /** Milliseconds since the epoch, by the clock of the machine that has pushed it. */
  time: number;
  /** Who has pushed it: a user and a machine, for people. */
  by: string;
  message: string;
}

/** A name at a remote. */
export interface RemoteRef {
  name: string;
  /** Grows by one with every push. */
  sequence: number;
  /** Newest first; the first one is what the name stands for. */
  snapshots: readonly [RemoteSnapshot, ...RemoteSnapshot[]];
}

export interface ReadRef {
  ref: RemoteRef;
  /** Of the object. */
  version: string;
}

/** Characters of a message. */
export const MAX_MESSAGE = 65_536;

/** Bytes of a ref with all its history. */
const MAX_BYTES = 64 << 20;

const snapshotSchema = z.object({
  root: z.string(),
  time: z.int().check(z.nonnegative()),
  by: z.string().check(z.maxLength(200)),
  message: z.string().check(z.maxLength(MAX_MESSAGE)),
});
const schema = z.object({
  version: z.literal(1),
  sequence: z.int().check(z.positive()),
  snapshots: z.array(snapshotSchema).check(z.minLength(1)),
});

export function encodeRef({ sequence, snapshots }: RemoteRef): Buffer {
  const plain = snapshots.map(({ root, ...rest }) => ({ root: formatLink(root), ...rest }));
  return Buffer.from(JSON.stringify({ version: 1, sequence, snapshots: plain }));
}

/** @throws LazytreeError CORRUPT */
export function decodeRef(name: string, bytes: Uint8Array, where: string): RemoteRef {
  const parsed = schema.safeParse(parseJson(bytes));
  if (!parsed.success) throw notValid(name, where);
  const { sequence, snapshots } = parsed.data;
  try {
    const [newest, ...older] = snapshots.map(({ root, ...rest }) => ({ root: parseLink(root), ...rest }));
    return { name, sequence, snapshots: [newest, ...older] };
  } catch (cause) {
    throw notValid(name, where, cause);
  }
}

function notValid(name: string, where: string, cause?: unknown): LazytreeError {
  return new LazytreeError('CORRUPT', `'${refName(name)}' of ${where} is not valid`, {
    cause,
    hint: 'push it again with --force',
  });
}

/** @returns undefined when there is no such ref */
export async function readRef(
  storage: Storage,
  name: string,
  signal: AbortSignal,
): Promise<ReadRef | undefined> {
  const object = await readObject(storage, refName(name), { most: MAX_BYTES, signal });
  if (!object) return undefined;
  return { ref: decodeRef(name, object.bytes, storage.describe()), version: object.version };
}

/**
 * What it stood for is kept by nothing else, unless it is pinned or another ref has it.
 *
 * @throws LazytreeError NOT_FOUND, REFUSED when somebody moves it meanwhile
 */
export async function removeRemoteRef(storage: Storage, name: string, signal: AbortSignal): Promise<void> {
  const found = await storage.get(refName(name), { signal });
  if (!found) throw new LazytreeError('NOT_FOUND', `there is no '${name}' at ${storage.describe()}`);
  if (await storage.delete(refName(name), { signal, version: found.version })) return;
  throw new LazytreeError('REFUSED', `'${name}' of ${storage.describe()} has just been moved`, {
    hint: 'look at it, and remove it again',
  });
}

/** All refs, by name. */
export async function* listRemoteRefs(storage: Storage, signal: AbortSignal): AsyncGenerator<ReadRef> {
  for await (const { name } of storage.list(REFS, { signal })) {
    const found = await readRef(storage, name.slice(REFS.length), signal);
    if (found) yield found;
  }
}

/** A ref with one more snapshot, and of those before only what a policy keeps. */
export function withSnapshot(
  before: RemoteRef | undefined,
  name: string,
  { snapshot, keep }: { snapshot: RemoteSnapshot; keep: KeepPolicy },
): RemoteRef {
  const older = before?.snapshots ?? [];
  const all = [snapshot, ...older];
  const kept = selectKept(
    all.map(({ time }) => time),
    keep,
  );
  const left = older.filter((_, i) => kept[i + 1]);
  return { name, sequence: (before?.sequence ?? 0) + 1, snapshots: [snapshot, ...left] };
}
