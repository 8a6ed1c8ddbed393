import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '../errors.js';
import { isCrcOfBeginning, maskedCrc32c } from './crc32c.js';

/**
 * LevelDB's files have a CRC for everything, and LevelDB looks at few of them: what follows damage in a log it drops
 * without a word, refs and pins as well, and in tables it takes what is there. (LevelDB doc/log_format.md,
 * doc/table_format.md)
 */
export interface IndexDamage {
  file: string;
  offset: number;
  length: number;
}

/** Where a log is damaged that LevelDB would read when it is opened. That its end was not written is no damage. */
export function damagedLog(directory: string): IndexDamage | undefined {
  return filesOf(directory, '.log')
    .map(([file, bytes]) => damageInLog(file, bytes))
    .find((damage) => damage !== undefined);
}

/** Longer than LevelDB takes to write a table. */
const WRITTEN_MS = 500;

/** Where tables are damaged, be the index open or not. */
export async function damagedTables(directory: string): Promise<IndexDamage[]> {
  const look = () => filesOf(directory, '.ldb').flatMap(([file, bytes]) => damageInTable(file, bytes));
  const first = new Set(look().map(({ file }) => file));
  if (first.size === 0) return [];
  // One that was being written is whole by now, and others may have taken its place.
  await sleep(WRITTEN_MS);
  return look().filter(({ file }) => first.has(file));
}

function filesOf(directory: string, suffix: string): [file: string, bytes: Buffer][] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(suffix))
    .flatMap((name) => {
      const file = join(directory, name);
      try {
        return [[file, readFileSync(file)]];
      } catch (error) {
        // LevelDB, here or in another process, has just been done with it.
        if (errnoOf(error) === 'ENOENT') return [];
        throw error;
      }
    });
}

const LOG_BLOCK = 32 << 10;
/** crc, length, type */
const LOG_HEADER = 7;

function damageInLog(file: string, bytes: Buffer): IndexDamage | undefined {
  const size = bytes.length;
  const damage = (offset: number) => ({ file, offset, length: size - offset });
  for (let at = 0; ; ) {
    const left = LOG_BLOCK - (at % LOG_BLOCK);
    if (left < LOG_HEADER) {
      at += left;
      continue;
    }
    if (at + LOG_HEADER > size) return undefined;
    const crc = bytes.readUInt32LE(at);
    const length = bytes.readUInt16LE(at + 4);
    const end = at + LOG_HEADER + length;
    const isWhole = length <= left - LOG_HEADER && end <= size;
    if (isWhole && maskedCrc32c(bytes, at + 6, end) === crc) {
      at = end;
      continue;
    }
    // A power cut leaves zeros, and a killed process a beginning.
    if (endsInZeros(bytes, at)) return undefined;
    if (!isWhole && length <= left - LOG_HEADER && !isCrcOfBeginning(crc, bytes, at + 6)) return undefined;
    return damage(at);
  }
}

const ZEROS = 8;

function endsInZeros(bytes: Buffer, from: number): boolean {
  const end = bytes.subarray(Math.max(from, bytes.length - ZEROS));
  return end.every((byte) => byte === 0);
}

/** Two handles of at most 20 bytes each, and a number that says what it is. */
const FOOTER = 48;
const MAGIC = 0xdb4775248b80fb57n;
/** After each block: how it is compressed, and the crc. */
const TRAILER = 5;

function damageInTable(file: string, bytes: Buffer): IndexDamage[] {
  const size = bytes.length;
  const all = [{ file, offset: 0, length: size }];
  if (size < FOOTER || bytes.readBigUInt64LE(size - 8) !== MAGIC) return all;
  const damage: IndexDamage[] = [];

  /** A block whose place is said at `at`; undefined when it is damaged. */
  function block(at: number): { content: Buffer | undefined; next: number } {
    const [offset, afterOffset] = varint(bytes, at);
    const [length, next] = varint(bytes, afterOffset);
    const end = offset + length;
    if (end + TRAILER > size) return { content: undefined, next };
    const isWhole = maskedCrc32c(bytes, offset, end + 1) === bytes.readUInt32LE(end + 1);
    if (!isWhole) damage.push({ file, offset, length: length + TRAILER });
    return { content: isWhole ? bytes.subarray(offset, end) : undefined, next };
  }

  const meta = block(size - FOOTER);
  const index = block(meta.next);
  const padding = bytes.subarray(index.next, size - 8);
  if (!meta.content || !index.content || !padding.every((byte) => byte === 0))
    return damage.length > 0 ? damage : all;
  for (const content of [meta.content, index.content])
    for (const place of valuesOf(content)) block(content.byteOffset - bytes.byteOffset + place);
  return damage;
}

/** Where in a block its values begin: entries share the beginnings of their keys, and restart points follow them. */
function* valuesOf(content: Buffer): Generator<number> {
  const restarts = content.readUInt32LE(content.length - 4);
  const end = content.length - 4 - 4 * restarts;
  for (let at = 0; at < end; ) {
    const [, afterShared] = varint(content, at);
    const [own, afterOwn] = varint(content, afterShared);
    const [length, afterLength] = varint(content, afterOwn);
    yield afterLength + own;
    at = afterLength + own + length;
  }
}

function varint(bytes: Buffer, at: number): [value: number, next: number] {
  let value = 0;
  for (let i = at, scale = 1; ; i++, scale *= 128) {
    value += (bytes[i] & 0x7f) * scale;
    if ((bytes[i] & 0x80) === 0 || i - at === 7) return [value, i + 1];
  }
}
