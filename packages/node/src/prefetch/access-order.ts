import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, formatLink, type Link } from '@lazytree/core';

/**
 * The files of a tree in the order in which they were first read: what the next one who mounts it is likely to read,
 * and when. A hint: it may be lost or wrong, and nothing but speed depends on it. In `access/<CID>` of the home, the
 * links one after another in their binary form.
 */

/** Longer orders are cut: by then everything is wanted. */
const MOST = 200_000;
const LINK_BYTES = 33;

function orderFile(home: string, root: Link): string {
  return join(home, 'access', formatLink(root));
}

export async function readAccessOrder(home: string, root: Link): Promise<Link[]> {
  let bytes: Buffer;
  try {
    bytes = await readFile(orderFile(home, root));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
  const links: Link[] = [];
  for (let at = 0; at + LINK_BYTES <= bytes.length; at += LINK_BYTES) {
    links.push(bytes.toString('latin1', at, at + LINK_BYTES) as Link);
  }
  return links;
}

/** Appends what was read now and had not been read before. */
export async function extendAccessOrder(home: string, root: Link, links: Iterable<Link>): Promise<void> {
  const known = await readAccessOrder(home, root);
  const order = new Set([...known, ...links]);
  if (order.size === known.length) return;
  const file = orderFile(home, root);
  await mkdir(join(home, 'access'), { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}.new`;
  await writeFile(draft, Buffer.from([...order].slice(0, MOST).join(''), 'latin1'), { mode: 0o600 });
  await rename(draft, file);
}
