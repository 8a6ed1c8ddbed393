import { formatLink, LazytreeError, type Link, parseLink } from '@lazytree/core';
import * as z from 'zod/mini';
import { decodeOrder, encodeOrder } from '../prefetch/access-order.js';
import { fromHex, ROOTS, rootName, toHex } from './object-names.js';
import { readObject } from './read-object.js';
import type { Storage } from './storage/storage.js';

/** A part of a pack in which nodes of a tree are. */
export interface NodeRange {
  pack: string;
  offset: number;
  length: number;
}

/**
 * Says that a tree is there with all below it, and where its nodes were when it was pushed: so that all of them can be had
 * with a request or two. It is a hint: packs may have been made anew since.
 */
export interface RootManifest {
  root: Link;
  nodes: readonly NodeRange[];
  /** Files of the tree in the order in which they were first read somewhere; empty when nobody knows. */
  order: readonly Link[];
  /** Kept though no ref names it. */
  pinned: boolean;
  /** When it was pushed, in milliseconds since the epoch. */
  time: number;
}

/** More would be no hint any more. */
export const MAX_NODE_RANGES = 4096;
/** Links of an order: half a megabyte, with which manifests stay small beside what they save. */
export const MAX_ORDER = 8192;
/** Bytes of a range: what is larger is not read for a hint. */
const MAX_RANGE_BYTES = 32 << 20;
/** Bytes of a manifest. */
const MAX_BYTES = 1 << 20;

const schema = z.object({
  version: z.literal(1),
  nodes: z
    .array(
      z.object({
        pack: z.string(),
        offset: z.int().check(z.nonnegative()),
        length: z.int().check(z.positive()),
      }),
    )
    .check(z.maxLength(MAX_NODE_RANGES)),
  order: z.optional(z.string()),
  pinned: z.boolean(),
  time: z.int().check(z.nonnegative()),
});

export function encodeManifest({ nodes, order, pinned, time }: RootManifest): Buffer {
  const text = {
    version: 1,
    nodes: nodes.map(({ pack, ...range }) => ({ pack: toHex(pack), ...range })),
    ...(order.length > 0 && { order: encodeOrder(order.slice(0, MAX_ORDER)).toString('base64') }),
    pinned,
    time,
  };
  return Buffer.from(JSON.stringify(text));
}

/** @throws LazytreeError CORRUPT */
export function decodeManifest(root: Link, bytes: Uint8Array, where: string): RootManifest {
  const parsed = schema.safeParse(parseJson(bytes));
  if (!parsed.success) throw notValid(root, where);
  const { nodes, order = '', pinned, time } = parsed.data;
  const fitting = nodes.filter(({ length }) => length <= MAX_RANGE_BYTES);
  const places = fitting.map(({ pack: text, ...range }) => {
    const pack = fromHex(text);
    if (pack === undefined) throw notValid(root, where);
    return { pack, ...range };
  });
  return { root, nodes: places, order: decodeOrder(Buffer.from(order, 'base64')), pinned, time };
}

function notValid(root: Link, where: string): LazytreeError {
  return new LazytreeError('CORRUPT', `'${rootName(root)}' of ${where} is not valid`, {
    hint: `push ${formatLink(root)} again`,
  });
}

export interface ReadManifest {
  manifest: RootManifest;
  /** Of the object. */
  version: string;
}

/** @returns undefined when the tree is not there */
export async function readManifest(
  storage: Storage,
  root: Link,
  signal: AbortSignal,
): Promise<ReadManifest | undefined> {
  const object = await readObject(storage, rootName(root), { most: MAX_BYTES, signal });
  if (!object) return undefined;
  return { manifest: decodeManifest(root, object.bytes, storage.describe()), version: object.version };
}

/** Roots that are kept though no ref names them. */
export async function* listPinned(storage: Storage, signal: AbortSignal): AsyncGenerator<RootManifest> {
  for await (const { name } of storage.list(ROOTS, { signal })) {
    const found = await readManifest(storage, parseLink(name.slice(ROOTS.length)), signal);
    if (found?.manifest.pinned) yield found.manifest;
  }
}

/** @throws LazytreeError NOT_FOUND */
export async function unpin(storage: Storage, root: Link, signal: AbortSignal): Promise<void> {
  for (;;) {
    const found = await readManifest(storage, root, signal);
    if (!found?.manifest.pinned)
      throw new LazytreeError('NOT_FOUND', `${formatLink(root)} is not pinned at ${storage.describe()}`);
    const body = [encodeManifest({ ...found.manifest, pinned: false })];
    const expected = { version: found.version };
    if (await storage.put(rootName(root), body, { signal, expected })) return;
  }
}

/** @returns undefined for what is no JSON */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
