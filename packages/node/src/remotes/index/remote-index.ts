import { type BlockPlace, digestOf, LazytreeError, type Link } from '@lazytree/core';

import pMap from 'p-map';
import type { MountLog } from '../../mounts/mount-log.js';
import { CONDEMNED, fromHex, LOCK, TABLES } from '../object-names.js';
import type { Storage } from '../storage/storage.js';
import type { IndexCache } from './index-cache.js';
import { largeTable, MANY, type Table, wholeTable } from './table.js';

/** A table of a remote, by what listing says of it. */
export interface TableInfo {
  id: string;
  name: string;
  size: number;
  version: string;
  modified: number;
}

/** Where in a remote its blocks are. */
export interface RemoteIndex {
  /** The tables there are, as last listed; listed now when they have not been, or not since `newerThan`. */
  list(options: { signal: AbortSignal; newerThan?: number }): Promise<readonly TableInfo[]>;
  /** The lock of collections, by the same listing: another version of it says that one has been at work. */
  collection(options: { signal: AbortSignal; newerThan?: number }): Promise<TableInfo | undefined>;
  /** Tables of blocks that no root needed when they were last looked at. */
  listCondemned(signal: AbortSignal): Promise<readonly TableInfo[]>;
  /**
   * Where blocks are; those that the remote does not have are not in the answer. What is not found is looked for in tables
   * written since they were last listed, and among what is condemned.
   */
  find(links: Iterable<Link>, options: { signal: AbortSignal }): Promise<Map<Link, BlockPlace>>;
  /**
   * Where blocks are that one can rely on: by the tables as last listed, and not by what is condemned. What a damaged
   * table says is not known: whoever sends its blocks again writes it again.
   */
  findLasting(links: Iterable<Link>, options: { signal: AbortSignal }): Promise<Map<Link, BlockPlace>>;
  /**
   * A whole table.
   *
   * @param fresh as the storage has it, even when it is kept here
   * @throws LazytreeError NOT_FOUND when it has gone, CORRUPT
   */
  read(table: TableInfo, signal: AbortSignal, fresh?: boolean): Promise<Buffer>;
  /** A table that has just been written. */
  added(table: TableInfo, bytes: Buffer): Promise<void>;
  /** What was known may be wrong: a pack is not where it was. */
  forget(): void;
  /** The same of what was read of tables. @returns false when all of it was checked */
  forgetPlaces(): boolean;
}

const WHOLE_BYTES = 8 << 20;
/** How often tables are listed again because something was not found. */
const RELIST_MS = 2000;
const AT_ONCE = 4;
/** More than a table of as many blocks as can be in one has. */
const MAX_TABLE_BYTES = 256 << 20;

export interface RemoteIndexOptions {
  storage: Storage;
  cache: IndexCache;
  log: MountLog;
  /** Tables up to this size are fetched whole, and kept on the disk. Default: 8 MiB. */
  wholeBytes?: number;
}

interface Listed {
  tables: TableInfo[];
  lock: TableInfo | undefined;
}

interface Listing {
  at: number;
  listed: Promise<Listed>;
}

interface Search {
  /** A damaged table is passed over. */
  passDamaged?: boolean;
  wanted: ReadonlySet<Link>;
  found: Map<Link, BlockPlace>;
  signal: AbortSignal;
}

export function createRemoteIndex({
  storage,
  cache,
  log,
  wholeBytes = WHOLE_BYTES,
}: RemoteIndexOptions): RemoteIndex {
  const open = new Map<string, Promise<Table>>();
  /** Those that are not read whole. */
  const inParts = new Set<string>();
  let listing: Listing | undefined;
  let condemned: Listing | undefined;

  async function listTables(prefix: string, signal: AbortSignal): Promise<Listed> {
    const listed: Listed = { tables: [], lock: undefined };
    for await (const { name, size, version, modified } of storage.list(prefix, { signal })) {
      const id = fromHex(name.slice(prefix.length));
      if (id !== undefined) listed.tables.push({ id, name, size, version, modified });
      if (name === LOCK) listed.lock = { id: '', name, size, version, modified };
    }
    return listed;
  }

  function listed({ signal, newerThan = 0 }: { signal: AbortSignal; newerThan?: number }): Promise<Listed> {
    if (listing && listing.at >= newerThan) return listing.listed;
    const own: Listing = { at: performance.now(), listed: listTables(TABLES, signal) };
    listing = own;
    own.listed.then(forgetOthers, () => {
      if (listing === own) listing = undefined;
    });
    return own.listed;
  }

  /** Tables that have been replaced are kept neither in memory nor on the disk. */
  async function forgetOthers({ tables }: Listed): Promise<void> {
    const there = new Set(tables.map(({ id }) => id));
    for (const info of (await condemned?.listed.catch(() => undefined))?.tables ?? []) there.add(info.id);
    for (const id of open.keys()) if (!there.has(id)) open.delete(id);
    await cache.retain(there).catch((error: unknown) => {
      log.warn({ error: (error as Error).message }, 'tables that are not needed could not be removed');
    });
  }

  async function list(options: { signal: AbortSignal; newerThan?: number }): Promise<TableInfo[]> {
    return (await listed(options)).tables;
  }

  async function listCondemned(signal: AbortSignal): Promise<TableInfo[]> {
    if (condemned && performance.now() - condemned.at < RELIST_MS) return (await condemned.listed).tables;
    const own: Listing = { at: performance.now(), listed: listTables(CONDEMNED, signal) };
    condemned = own;
    own.listed.catch(() => {
      if (condemned === own) condemned = undefined;
    });
    return (await own.listed).tables;
  }

  async function read({ id, name, size }: TableInfo, signal: AbortSignal, fresh = false): Promise<Buffer> {
    const known = fresh ? undefined : await cache.read(id);
    if (known) return known;
    const object = size > MAX_TABLE_BYTES ? undefined : await storage.get(name, { signal });
    if (!object && size <= MAX_TABLE_BYTES) throw gone(name);
    if (!object || digestOf(object.bytes) !== id) {
      throw new LazytreeError('CORRUPT', `${where(name)} is not what was written`, {
        hint: 'run `lazytree remote validate`; another push of what it listed repairs it',
      });
    }
    await keep(id, object.bytes);
    return object.bytes;
  }

  async function keep(id: string, bytes: Buffer): Promise<void> {
    try {
      await cache.write(id, bytes);
    } catch (error) {
      log.warn({ error: (error as Error).message }, 'a table of a remote could not be kept');
    }
  }

  function tableOf(info: TableInfo, signal: AbortSignal): Promise<Table> {
    const known = open.get(info.id);
    if (known) return known;
    const opening = openTable(info, signal);
    open.set(info.id, opening);
    opening.catch(() => open.delete(info.id));
    return opening;
  }

  async function openTable(info: TableInfo, signal: AbortSignal): Promise<Table> {
    if (info.size <= wholeBytes) return wholeTable(await read(info, signal), where(info.name));
    inParts.add(info.id);
    return largeTable({
      size: info.size,
      where: where(info.name),
      async read(range, own) {
        const object = await storage.get(info.name, { range, signal: own });
        if (!object) throw gone(info.name);
        return object.bytes;
      },
    });
  }

  function where(name: string): string {
    return `'${name}' of ${storage.describe()}`;
  }

  function gone(name: string): LazytreeError {
    return new LazytreeError('NOT_FOUND', `${where(name)} has gone`);
  }

  /** Looks in some tables. @returns false when one has gone meanwhile */
  async function search(
    tables: readonly TableInfo[],
    { wanted, found, signal, passDamaged = false }: Search,
  ): Promise<boolean> {
    let complete = true;
    const searchOne = async (info: TableInfo) => {
      const left = [...wanted].filter((link) => !found.has(link));
      if (left.length === 0) return;
      try {
        const table = await tableOf(info, signal);
        await table.find(left, found, signal);
      } catch (error) {
        const { code, message } = error as LazytreeError;
        if (passDamaged && code === 'CORRUPT') return log.warn({ error: message }, 'a table is passed over');
        if (code !== 'NOT_FOUND') throw error;
        open.delete(info.id);
        complete = false;
      }
    };
    await pMap(tables, searchOne, { concurrency: AT_ONCE, signal });
    return complete;
  }

  return {
    list,
    collection: async (options) => (await listed(options)).lock,
    read,
    listCondemned,
    async find(links, { signal }) {
      const wanted = new Set(links);
      const found = new Map<Link, BlockPlace>();
      const began = performance.now();
      const before = listing?.at;
      const complete = await search(await list({ signal }), { wanted, found, signal });
      if (found.size === wanted.size) return found;
      // What was listed before may be out of date.
      if (!complete || (before !== undefined && listing?.at === before && began - before > RELIST_MS)) {
        await search(await list({ signal, newerThan: began }), { wanted, found, signal });
      }
      if (found.size < wanted.size) await search(await listCondemned(signal), { wanted, found, signal });
      // A damaged filter hides a few of many: they are looked for without it.
      const left = wanted.size - found.size;
      if (left > 0 && left < MANY && wanted.size >= MANY) {
        await search(await list({ signal }), { wanted, found, signal });
      }
      return found;
    },
    async findLasting(links, { signal }) {
      const wanted = new Set(links);
      const found = new Map<Link, BlockPlace>();
      const options = { wanted, found, signal, passDamaged: true };
      while (!(await search(await list({ signal }), options))) listing = undefined;
      return found;
    },
    async added(table, bytes) {
      open.set(table.id, Promise.resolve(wholeTable(bytes, where(table.name))));
      if (table.size <= wholeBytes) await keep(table.id, bytes);
      const known = (await listing?.listed.catch(() => undefined))?.tables;
      if (known && !known.some(({ id }) => id === table.id)) known.push(table);
    },
    forget() {
      listing = undefined;
      condemned = undefined;
    },
    forgetPlaces() {
      for (const id of inParts) open.delete(id);
      const some = inParts.size > 0;
      inParts.clear();
      return some;
    },
  };
}
