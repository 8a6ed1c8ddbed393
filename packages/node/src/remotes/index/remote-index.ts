import { type BlockPlace, digestOf, LazytreeError } from '@lazytree/core';

import pMap from 'p-map';
import type { MountLog } from '../../mounts/mount-log.js';
import { CONDEMNED, fromHex, TABLES } from '../object-names.js';
import type { Storage } from '../storage/storage.js';
import type { IndexCache } from './index-cache.js';
import { largeTable, type Table, wholeTable } from './table.js';

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
  /** Tables of blocks that no root needed when they were last looked at. */
  listCondemned(signal: AbortSignal): Promise<readonly TableInfo[]>;
  /**
   * Where blocks are; those that the remote does not have are not in the answer. What is not found is looked for in tables
   * written since they were last listed, and among what is condemned.
   */
  find(digests: Iterable<string>, options: { signal: AbortSignal }): Promise<Map<string, BlockPlace>>;
  /**
   * Where blocks are that one can rely on: by the tables as last listed, and not by what is condemned. What a damaged
   * table says is not known: whoever sends its blocks again writes it again.
   */
  findLasting(digests: Iterable<string>, options: { signal: AbortSignal }): Promise<Map<string, BlockPlace>>;
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
}

/** Tables up to this size are fetched whole, and kept on the disk. */
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
}

interface Search {
  /** A damaged table is passed over. */
  passDamaged?: boolean;
  wanted: ReadonlySet<string>;
  found: Map<string, BlockPlace>;
  signal: AbortSignal;
}

export function createRemoteIndex({ storage, cache, log }: RemoteIndexOptions): RemoteIndex {
  const open = new Map<string, Promise<Table>>();
  let listing: { at: number; tables: Promise<TableInfo[]> } | undefined;
  let condemned: { at: number; tables: Promise<TableInfo[]> } | undefined;

  async function listTables(prefix: string, signal: AbortSignal): Promise<TableInfo[]> {
    const tables: TableInfo[] = [];
    for await (const { name, size, version, modified } of storage.list(prefix, { signal })) {
      const id = fromHex(name.slice(prefix.length));
      if (id !== undefined) tables.push({ id, name, size, version, modified });
    }
    return tables;
  }

  function list({ signal, newerThan = 0 }: { signal: AbortSignal; newerThan?: number }) {
    if (listing && listing.at >= newerThan) return listing.tables;
    const tables = listTables(TABLES, signal);
    const own = { at: performance.now(), tables };
    listing = own;
    tables.catch(() => {
      if (listing === own) listing = undefined;
    });
    return tables;
  }

  async function listCondemned(signal: AbortSignal): Promise<TableInfo[]> {
    if (condemned && performance.now() - condemned.at < RELIST_MS) return condemned.tables;
    const tables = listTables(CONDEMNED, signal);
    const own = { at: performance.now(), tables };
    condemned = own;
    tables.catch(() => {
      if (condemned === own) condemned = undefined;
    });
    return tables;
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
    if (info.size <= WHOLE_BYTES) return wholeTable(await read(info, signal), where(info.name));
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
      const left = [...wanted].filter((digest) => !found.has(digest));
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
    read,
    listCondemned,
    async find(digests, { signal }) {
      const wanted = new Set(digests);
      const found = new Map<string, BlockPlace>();
      const began = performance.now();
      const before = listing?.at;
      const complete = await search(await list({ signal }), { wanted, found, signal });
      if (found.size === wanted.size) return found;
      // What was listed before may be out of date.
      if (!complete || (before !== undefined && listing?.at === before && began - before > RELIST_MS)) {
        await search(await list({ signal, newerThan: began }), { wanted, found, signal });
      }
      if (found.size < wanted.size) await search(await listCondemned(signal), { wanted, found, signal });
      return found;
    },
    async findLasting(digests, { signal }) {
      const wanted = new Set(digests);
      const found = new Map<string, BlockPlace>();
      const options = { wanted, found, signal, passDamaged: true };
      while (!(await search(await list({ signal }), options))) listing = undefined;
      return found;
    },
    async added(table, bytes) {
      open.set(table.id, Promise.resolve(wholeTable(bytes, where(table.name))));
      if (table.size <= WHOLE_BYTES) await keep(table.id, bytes);
      const known = await listing?.tables.catch(() => undefined);
      if (known && !known.some(({ id }) => id === table.id)) known.push(table);
    },
    forget() {
      listing = undefined;
      condemned = undefined;
    },
  };
}
