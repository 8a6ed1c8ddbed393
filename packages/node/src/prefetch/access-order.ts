import fs from 'node:fs';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DAG_CBOR, errnoOf, formatLink, type Link, parseLink, RAW } from '@lazytree/core';

/**
 * The files of a tree in the order in which they were first read: what the next one who mounts it is likely to read,
 * and when. A hint: it may be lost or wrong, and nothing but speed depends on it. In `access/<CID>` of the home, the
 * links one after another in their binary form.
 */

/** Longer orders are cut: by then everything is wanted. */
const MOST = 200_000;
const LINK_BYTES = 33;
const NAME = /^b[a-z2-7]{58}$/;

function orderFile(home: string, root: Link): string {
  return join(home, 'access', formatLink(root));
}

/** What is being written, by file: whoever reads or writes the same file waits for it. */
const writing = new Map<string, Promise<void>>();

export async function readAccessOrder(home: string, root: Link): Promise<Link[]> {
  const file = orderFile(home, root);
  // Who writes it learns why it could not be written.
  await writing.get(file)?.catch(() => undefined);
  return readOrder(file);
}

async function readOrder(file: string): Promise<Link[]> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
  return decodeOrder(bytes);
}

/** The trees whose orders were added to last, the latest first, and how many links these have. */
export async function latestAccessOrders(
  home: string,
  most: number,
): Promise<{ root: Link; length: number }[]> {
  const directory = join(home, 'access');
  const names = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  const found: { name: string; time: number; size: number }[] = [];
  for (const name of names.filter((other) => NAME.test(other))) {
    const stat = fs.statSync(join(directory, name), { throwIfNoEntry: false });
    if (stat) found.push({ name, time: stat.mtimeMs, size: stat.size });
  }
  found.sort((a, b) => b.time - a.time);
  return found.slice(0, most).map(({ name, size }) => ({ root: parseLink(name), length: size / LINK_BYTES }));
}

export function encodeOrder(links: readonly Link[]): Buffer {
  return Buffer.from(links.join(''), 'latin1');
}

/** What is no link is left out. */
export function decodeOrder(bytes: Buffer): Link[] {
  const links: Link[] = [];
  for (let at = 0; at + LINK_BYTES <= bytes.length; at += LINK_BYTES) {
    if (bytes[at] === RAW || bytes[at] === DAG_CBOR)
      links.push(bytes.toString('latin1', at, at + LINK_BYTES) as Link);
  }
  return links;
}

/** The orders of a home. */
export interface AccessOrders {
  read(root: Link): Promise<Link[]>;
  extend(root: Link, links: Iterable<Link>): Promise<void>;
}

/** @param learn has what was read since the last time kept */
export function accessOrders(home: string, learn: () => Promise<void> = async () => undefined): AccessOrders {
  return {
    async read(root) {
      await learn();
      return readAccessOrder(home, root);
    },
    extend: (root, links) => extendAccessOrder(home, root, links),
  };
}

/** Appends what was read now and had not been read before. Whoever asks from the call on gets it, too. */
export function extendAccessOrder(home: string, root: Link, links: Iterable<Link>): Promise<void> {
  const file = orderFile(home, root);
  const before = writing.get(file)?.catch(() => undefined);
  const own = Promise.resolve(before)
    .then(() => extendOrder(file, links))
    .finally(() => {
      if (writing.get(file) === own) writing.delete(file);
    });
  writing.set(file, own);
  return own;
}

async function extendOrder(file: string, links: Iterable<Link>): Promise<void> {
  const known = await readOrder(file);
  const order = new Set([...known, ...links]);
  if (order.size === known.length) return;
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}.new`;
  await writeFile(draft, encodeOrder([...order].slice(0, MOST)), { mode: 0o600 });
  await rename(draft, file);
}
