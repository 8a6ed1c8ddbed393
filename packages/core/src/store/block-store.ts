import type { DirectoryEntry, FileEntry, OriginEntry } from '../format/entry.js';
import type { Link } from '../format/link.js';

/**
 * The interfaces of stores, from narrow to wide. Every implementation and every wrapper passes the same
 * conformance suite (`packages/core/test/store-conformance.ts`).
 *
 * *Missing* and *failed* are different answers: `get` rejects with BlockMissingError only when the store knows
 * that it does not have the block, and with any other error when it could not tell or could not deliver.
 */
export interface StoreOptions {
  signal?: AbortSignal;
}

export interface Block {
  link: Link;
  bytes: Uint8Array;
}

export interface BlockSource {
  /** What this store is made of, outermost first, as in `cache(memory, local(/home/…))`. */
  describe(): string;
  /** The bytes of a block. The caller must not change them. */
  get(link: Link, options?: StoreOptions): Promise<Uint8Array>;
  has(link: Link, options?: StoreOptions): Promise<boolean>;
  /**
   * What an origin entry stands for, with all that is laid over it, under the entry's name. Its nodes are read from here
   * like others. Absent where nobody knows of origins.
   *
   * @throws LazytreeError NOT_FOUND, NETWORK, REFUSED, CORRUPT
   */
  resolveOrigin?(entry: OriginEntry, options?: StoreOptions): Promise<DirectoryEntry | FileEntry>;
  close(): Promise<void>;
}

export interface BlockStore extends BlockSource {
  /** Resolves when `get` will find the block; it is durable after the next `flush`. */
  put(block: Block, options?: StoreOptions): Promise<void>;
  /** Makes durable what was put before the call. */
  flush(): Promise<void>;
}

export interface PrunableStore extends BlockStore {
  links(options?: StoreOptions): AsyncIterable<Link>;
  /** Forgets blocks; those not here are no error. */
  delete(links: readonly Link[]): Promise<void>;
}

/** What `store` gives for `links`, in their order, asking for a few at a time. */
export async function* getMany(
  store: BlockSource,
  links: Iterable<Link>,
  options?: StoreOptions,
): AsyncGenerator<Block> {
  const ahead: { link: Link; bytes: Promise<Uint8Array> }[] = [];
  const next = async (): Promise<Block> => {
    const { link, bytes } = ahead.shift() as (typeof ahead)[number];
    return { link, bytes: await bytes };
  };
  for (const link of links) {
    const bytes = store.get(link, options);
    // Its failure is reported when its turn comes, and by nobody if that never does.
    bytes.catch(() => undefined);
    ahead.push({ link, bytes });
    if (ahead.length >= READ_AHEAD) yield await next();
  }
  while (ahead.length > 0) yield await next();
}

const READ_AHEAD = 16;

const MEMBERS = [
  'describe',
  'get',
  'has',
  'resolveOrigin',
  'close',
  'put',
  'flush',
  'links',
  'delete',
] as const;

/**
 * What a wrapper starts from: the members of these interfaces that `inner` has, and none of its others, by which
 * a caller could reach past the wrapper.
 */
export function forwarding<S extends BlockSource>(inner: S): S {
  const members = MEMBERS.filter((member) => member in inner);
  return Object.fromEntries(members.map((member) => [member, inner[member as keyof S]])) as unknown as S;
}
