import { statSync } from 'node:fs';
import {
  type BlockSource,
  type Entry,
  getRef,
  LazytreeError,
  type Link,
  openImage,
  parseLink,
  type Ref,
  resolvePath,
  type StoreOptions,
  toFsPath,
} from '@lazytree/core';
import type { Home } from './home.js';
import { NotHereError } from './not-here-error.js';

/** What a TREE on the command line stands for: a root, and a path below it. */
export interface ResolvedTree {
  /** Where its blocks are. */
  store: BlockSource;
  root: Link;
  /** Relative to the root; empty for the root itself. */
  path: string;
  entry: Entry;
  ref?: Ref;
  /** The image's file, if it is in one. */
  image?: string;
  /** Releases what was opened for this tree alone. */
  close(): Promise<void>;
}

const IMAGE = 'image:';
const NOT_HERE = 'import it, or load an image that has it';

/** `ROOT[/path]`, `REF[/path]` or `image:FILE[/path]`. A path's leading and trailing slashes do not matter. */
export function isImageSpec(text: string): boolean {
  return text.startsWith(IMAGE);
}

/** The same with its file's path as `absolute` makes it. */
export function imageSpec(text: string, absolute: (path: string) => string): string {
  return IMAGE + absolute(text.slice(IMAGE.length));
}

/** Where trees are looked for that are not here. */
export interface Elsewhere {
  /** Blocks, also those that are not here yet. */
  source: BlockSource;
  /**
   * The root that a name stands for, at a remote or a peer, or at whoever has it.
   *
   * @throws LazytreeError NOT_FOUND, NETWORK
   */
  findRef(name: string, where: string | undefined): Promise<Link>;
  /** Fetches every directory of a tree. @throws LazytreeError BLOCK_MISSING when nobody has it, NETWORK */
  bringTree(root: Link): Promise<void>;
}

export interface ResolveOptions extends StoreOptions {
  elsewhere?: Elsewhere | undefined;
  /** Makes a source one that knows origins: for those on the way of a path. */
  withOrigins?: (source: BlockSource) => BlockSource;
  /** Do not walk the path: the entry is that of the root. */
  rootOnly?: boolean;
  /** Of a tree whose root is here, what is below may be elsewhere: whoever reads it brings it. */
  mayLack?: boolean;
}

/**
 * @param home may be absent for an image
 * @throws LazytreeError NOT_FOUND, USAGE (a CID that is none)
 */
export async function resolveTree(
  home: Home | undefined,
  text: string,
  options: ResolveOptions = {},
): Promise<ResolvedTree> {
  if (isImageSpec(text)) return resolveImage(text.slice(IMAGE.length), options);
  const slash = text.indexOf('/');
  const head = slash < 0 ? text : text.slice(0, slash);
  const path = slash < 0 ? '' : trimSlashes(text.slice(slash));
  if (!home) throw new LazytreeError('NOT_FOUND', `there is no store, and so no '${head}'`);
  const { store } = home;
  const { elsewhere, signal, mayLack = false } = options;
  const ref = head === '' ? undefined : getRef(store, head);
  const root = ref?.root ?? (await rootOf(head, elsewhere));
  const isHere = await store.has(root, { signal });
  if (elsewhere && !(isHere && mayLack)) await bringFrom(elsewhere, root, { head, isHere });
  else if (!isHere) {
    throw new NotHereError(`the root ${head} is not in the store ${store.directory}`, { hint: NOT_HERE });
  }
  const { withOrigins = (source) => source, rootOnly = false } = options;
  const source = withOrigins(elsewhere?.source ?? store);
  const entry = await resolvePath(source, root, rootOnly ? '' : path, { signal });
  return { store: source, root, path, entry, ...(ref ? { ref } : {}), async close() {} };
}

/** `NAME@PEER`; undefined for another text. */
export function parsePeerRef(text: string): { name: string; peer: string } | undefined {
  const at = text.lastIndexOf('@');
  return at > 0 ? { name: text.slice(0, at), peer: text.slice(at + 1) } : undefined;
}

/** What is neither the name of a ref nor a root may be `NAME`, `NAME@REMOTE` or `NAME@PEER` elsewhere. */
async function rootOf(head: string, elsewhere: Elsewhere | undefined): Promise<Link> {
  try {
    return parseRoot(head);
  } catch (error) {
    if (!elsewhere || (error as LazytreeError).code !== 'NOT_FOUND') throw error;
    const { name, peer } = parsePeerRef(head) ?? { name: head, peer: undefined };
    return elsewhere.findRef(name, peer);
  }
}

/** Of a tree that is here in part, what is here can be read when nobody has the rest. */
async function bringFrom(
  elsewhere: Elsewhere,
  root: Link,
  { head, isHere }: { head: string; isHere: boolean },
): Promise<void> {
  try {
    await elsewhere.bringTree(root);
  } catch (error) {
    const { code } = error as LazytreeError;
    if (isHere && (code === 'BLOCK_MISSING' || code === 'NETWORK' || code === 'CORRUPT')) return;
    if (code !== 'BLOCK_MISSING') throw error;
    const { message } = error as LazytreeError;
    throw new LazytreeError('NOT_FOUND', `nobody who can be asked has the root ${head}: ${message}`, {
      cause: error,
      hint: '`lazytree cluster peers` and `lazytree remote list` show who is asked',
    });
  }
}

function parseRoot(text: string): Link {
  try {
    return parseLink(text);
  } catch (error) {
    if (/^(b[a-z2-7]{30,}|Qm[1-9A-HJ-NP-Za-km-z]{30,}|z[1-9A-HJ-NP-Za-km-z]{40,})$/i.test(text)) throw error;
    throw new NotHereError(`there is no ref '${text}', and it is not a CID`, {
      hint: 'list the refs with `lazytree ref list`',
      cause: error,
    });
  }
}

/** The longest beginning of `text` that is a file is the image, the rest a path in it. */
async function resolveImage(text: string, options?: StoreOptions): Promise<ResolvedTree> {
  for (let end = text.length; end > 0; end = text.lastIndexOf('/', end - 1)) {
    const file = text.slice(0, end);
    if (!statSync(toFsPath(file), { throwIfNoEntry: false })?.isFile()) continue;
    const image = await openImage(file);
    try {
      const [root] = image.roots;
      const path = trimSlashes(text.slice(end));
      const entry = await resolvePath(image, root, path, options);
      return { store: image, root, path, entry, image: file, close: () => image.close() };
    } catch (error) {
      await image.close();
      throw error;
    }
  }
  throw new LazytreeError('NOT_FOUND', `there is no image '${text}'`);
}

function trimSlashes(path: string): string {
  return path.replace(/^\/+|\/+$/g, '');
}
