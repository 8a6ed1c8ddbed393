import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClassicLevel } from 'classic-level';
import { Level } from 'level';
import { LazytreeError } from '../errors.js';
import { DIGEST_BYTES } from '../format/link.js';
import { damagedLog } from './index-damage.js';
import type { CompressionCode } from './record.js';
import type { Place } from './segments.js';

/** Where a block's record is and how to read it. */
export interface Location extends Place {
  stored: number;
  raw: number;
  compression: CompressionCode;
}

/**
 * The LevelDB index. Keys: `b` + digest → location; `s` + segment number → committed length; `r`, `p` and `i` +
 * name → JSON of refs, pins and imported roots; `o`, `n` and `w`: what origins stood for, and where roots came from.
 */
export interface BlockIndex {
  find(digest: string): Location | undefined;
  /** Applies everything at once. With `durable`, it and all before it survive a power cut once this resolves. */
  write(changes: IndexChanges): Promise<void>;
  /** Every block, in order of digest. */
  entries(): AsyncGenerator<[digest: string, location: Location]>;
  committedLengths(): Promise<Map<number, number>>;
  getText(table: Table, name: string): string | undefined;
  listText(table: Table): Promise<[name: string, text: string][]>;
  /** Removes what is no entry: LevelDB's repair takes logs without looking at their checksums. */
  removeMalformed(): Promise<void>;
  /** Writes all tables anew. */
  rewrite(): Promise<void>;
  close(): Promise<void>;
}

export type Table = 'ref' | 'pin' | 'imported' | 'resolved' | 'reference' | 'provenance' | 'meta';

/**
 * Changes whenever blocks may have gone otherwise than by gc, which cares for the caches that promise them itself.
 * An index without one has lost its content.
 */
export const EPOCH = 'epoch';

/** Changes with every gc that removes anything. */
export const COLLECTION = 'collection';

export function newEpoch(name = EPOCH): ['meta', string, string] {
  return ['meta', name, randomBytes(16).toString('hex')];
}

export interface IndexChanges {
  blocks?: Iterable<[digest: string, location: Location]>;
  forget?: Iterable<string>;
  segments?: Iterable<[segment: number, length: number]>;
  forgetSegments?: Iterable<number>;
  texts?: Iterable<[table: Table, name: string, text: string | undefined]>;
  durable?: boolean;
}

const BLOCK = 0x62;
const SEGMENT = 0x73;
const TABLE_PREFIX = {
  ref: 'r',
  pin: 'p',
  imported: 'i',
  resolved: 'o',
  reference: 'n',
  provenance: 'w',
  meta: 'm',
} as const;
const LOCATION_BYTES = 17;
const PAGE = 2000;
const ENCODINGS = { keyEncoding: 'buffer', valueEncoding: 'buffer', multithreading: true } as const;

/** @throws LazytreeError LOCKED when another process has the index open */
export async function openBlockIndex(directory: string): Promise<BlockIndex> {
  const fresh = !existsSync(directory) || readdirSync(directory).length === 0;
  // LevelDB would begin anew, and remove what it then takes for leftovers.
  if (!fresh && !(await hasCurrent(directory))) throw corrupt(directory, 'its file CURRENT is gone');
  const lost = fresh ? undefined : damagedLog(directory);
  if (lost) throw corrupt(directory, `${basename(lost.file)} is damaged at byte ${lost.offset}`);
  const release = hold(directory);
  const db = new Level<Buffer, Buffer>(directory, {
    ...ENCODINGS,
    // An index that is there is opened and never made anew; nor need its directory be made.
    createIfMissing: !existsSync(join(directory, 'CURRENT')),
    compression: false,
    writeBufferSize: 8 << 20,
    cacheSize: 16 << 20,
  });
  try {
    await db.open();
  } catch (error) {
    release();
    throw explain(error, directory, fresh);
  }

  const scratch = Buffer.allocUnsafeSlow(1 + DIGEST_BYTES);
  scratch[0] = BLOCK;
  const value = Buffer.allocUnsafeSlow(LOCATION_BYTES);
  /** Writes that are done and not durable by themselves, and those of them that a later one has made durable. */
  let loose = 0;
  let synced = 0;
  /** What was read of the meta table, which is asked for with every node of a tree. */
  const meta = new Map<string, string | undefined>();

  function blockKey(digest: string): Buffer {
    scratch.write(digest, 1, DIGEST_BYTES, 'latin1');
    return scratch;
  }

  function read(table: Table, name: string): string | undefined {
    return db.getSync(textKey(table, name))?.toString();
  }

  return {
    find: finder(db),
    async write({
      blocks = [],
      forget = [],
      segments = [],
      forgetSegments = [],
      texts = [],
      durable = false,
    }) {
      const batch = db.batch();
      // The batch copies what it is given.
      for (const [digest, location] of blocks) batch.put(blockKey(digest), encodeLocation(location, value));
      for (const digest of forget) batch.del(blockKey(digest));
      for (const [segment, length] of segments) batch.put(segmentKey(segment), encodeLength(length));
      for (const segment of forgetSegments) batch.del(segmentKey(segment));
      const changed: string[] = [];
      for (const [table, name, text] of texts) {
        if (table === 'meta') changed.push(name);
        if (text === undefined) batch.del(textKey(table, name));
        else batch.put(textKey(table, name), Buffer.from(text));
      }
      // A sync takes everything along that was written before; a deletion of nothing brings one about.
      if (batch.length === 0 && durable && loose > synced) batch.del(textKey('meta', ''));
      if (batch.length === 0) return batch.close();
      try {
        const before = loose;
        await batch.write({ sync: durable });
        if (durable) synced = before;
        else loose += 1;
      } catch (error) {
        throw explain(error, directory, false);
      } finally {
        for (const name of changed) meta.delete(name);
      }
    },
    async *entries() {
      const range = { gte: Buffer.of(BLOCK), lt: Buffer.of(BLOCK + 1) };
      for await (const [key, value] of pages(range)) yield [key.toString('latin1', 1), decodeLocation(value)];
    },
    async committedLengths() {
      const lengths = new Map<number, number>();
      const range = { gte: Buffer.of(SEGMENT), lt: Buffer.of(SEGMENT + 1) };
      for await (const [key, value] of pages(range)) lengths.set(key.readUInt32BE(1), value.readDoubleLE(0));
      return lengths;
    },
    getText(table, name) {
      if (table !== 'meta') return read(table, name);
      if (!meta.has(name)) meta.set(name, read(table, name));
      return meta.get(name);
    },
    async listText(table) {
      const found: [string, string][] = [];
      const prefix = TABLE_PREFIX[table];
      const range = { gte: Buffer.from(prefix), lt: Buffer.of(prefix.charCodeAt(0) + 1) };
      for await (const [key, value] of pages(range)) found.push([key.toString('utf8', 1), value.toString()]);
      return found;
    },
    async removeMalformed() {
      const batch = db.batch();
      for await (const [key, value] of pages({ gte: Buffer.of(0), lt: Buffer.of(0xff) }))
        if (!isEntry(key, value)) batch.del(key);
      await batch.write({ sync: true });
    },
    // What Level is, under Node.
    rewrite: () => (db as ClassicLevel<Buffer, Buffer>).compactRange(Buffer.of(0), Buffer.of(0xff)),
    async close() {
      await db.close();
      release();
    },
  };

  async function* pages(range: { gte: Buffer; lt: Buffer }): AsyncGenerator<[Buffer, Buffer]> {
    const iterator = db.iterator(range);
    try {
      for (;;) {
        const page = await iterator.nextv(PAGE);
        if (page.length === 0) return;
        yield* page;
      }
    } finally {
      await iterator.close();
    }
  }
}

function isEntry(key: Buffer, value: Buffer): boolean {
  if (key[0] === BLOCK) return key.length === 1 + DIGEST_BYTES && value.length === LOCATION_BYTES;
  if (key[0] === SEGMENT) return key.length === 5 && value.length === 8;
  return Object.values(TABLE_PREFIX).includes(String.fromCharCode(key[0]) as 'r');
}

function segmentKey(segment: number): Buffer {
  const key = Buffer.allocUnsafe(5);
  key[0] = SEGMENT;
  key.writeUInt32BE(segment, 1);
  return key;
}

function textKey(table: Table, name: string): Buffer {
  return Buffer.from(TABLE_PREFIX[table] + name);
}

function encodeLength(length: number): Buffer {
  const value = Buffer.allocUnsafe(8);
  value.writeDoubleLE(length, 0);
  return value;
}

function encodeLocation({ segment, offset, stored, raw, compression }: Location, value: Buffer): Buffer {
  value.writeUInt32LE(segment, 0);
  value.writeUInt32LE(offset, 4);
  value.writeUInt32LE(stored, 8);
  value.writeUInt32LE(raw, 12);
  value[16] = compression;
  return value;
}

function decodeLocation(value: Buffer): Location {
  if (value.length !== LOCATION_BYTES) throw new LazytreeError('CORRUPT', 'an index entry of another size');
  return {
    segment: value.readUInt32LE(0),
    offset: value.readUInt32LE(4),
    stored: value.readUInt32LE(8),
    raw: value.readUInt32LE(12),
    compression: value[16] as CompressionCode,
  };
}

/** Indexes that this thread has open. LevelDB keeps other processes out, and lets threads of one process share. */
const held = new Set<string>();

/** @throws LazytreeError LOCKED */
function hold(directory: string): () => void {
  const place = join(realpathSync(dirname(directory)), basename(directory));
  if (held.has(place)) throw new LazytreeError('LOCKED', `${directory} is in use`);
  held.add(place);
  return () => held.delete(place);
}

/**
 * Looks blocks up in an index that another thread of this process has open.
 *
 * @throws LazytreeError when it cannot be opened
 */
export async function openIndexLookup(directory: string): Promise<Pick<BlockIndex, 'find' | 'close'>> {
  const db = new Level<Buffer, Buffer>(directory, { ...ENCODINGS, createIfMissing: false });
  try {
    await db.open();
  } catch (error) {
    throw explain(error, directory, false);
  }
  return { find: finder(db), close: () => db.close() };
}

function finder(db: Level<Buffer, Buffer>): BlockIndex['find'] {
  const key = Buffer.allocUnsafeSlow(1 + DIGEST_BYTES);
  key[0] = BLOCK;
  return (digest) => {
    key.write(digest, 1, DIGEST_BYTES, 'latin1');
    const value = db.getSync(key);
    return value === undefined ? undefined : decodeLocation(value);
  };
}

/** Whether the directory has what leads to its tables, if it has any. Another process may be about to make it. */
async function hasCurrent(directory: string): Promise<boolean> {
  for (let attempt = 0; attempt < 40; attempt++) {
    const names = readdirSync(directory);
    const holdsTables = names.some((name) => name.endsWith('.ldb') || name.startsWith('MANIFEST'));
    if (!holdsTables || names.includes('CURRENT')) return true;
    await sleep(25);
  }
  return false;
}

export function corrupt(directory: string, reason: string, cause?: unknown): LazytreeError {
  return new LazytreeError('CORRUPT', `the index ${directory} is corrupt: ${reason}`, {
    cause,
    hint: 'run `lazytree verify --repair` to rebuild it from the segments',
  });
}

function explain(error: unknown, directory: string, fresh: boolean): Error {
  const cause =
    (error as { cause?: { code?: string; message?: string } }).cause ?? (error as Error & { code?: string });
  if (cause?.code === 'LEVEL_LOCKED')
    return new LazytreeError('LOCKED', `${directory} is in use`, { cause: error });
  const message = cause?.message ?? String(error);
  if (/No space left/i.test(message)) {
    return new LazytreeError('NO_SPACE', `the index ${directory}: no space left on the device`, {
      cause: error,
      hint: 'free some space and run the command again; what was stored before is intact',
    });
  }
  const damaged = /orruption|missing files|MANIFEST|CURRENT|No such file/.test(message);
  if (cause?.code === 'LEVEL_CORRUPTION' || (!fresh && damaged)) return corrupt(directory, message, error);
  return new LazytreeError('FAILED', `the index ${directory}: ${message}`, { cause: error });
}
