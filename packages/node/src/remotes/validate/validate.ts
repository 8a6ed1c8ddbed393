import { randomUUID } from 'node:crypto';
import { decodeTable, formatLink, type LazytreeError, linkDigest } from '@lazytree/core';
import { readTables } from '../collect/collect.js';
import { fromHex, PACKS, packName, ROOTS, rootName } from '../object-names.js';
import { listRemoteRefs } from '../remote-ref.js';
import type { Storage } from '../storage/storage.js';
import type { ValidateParts } from './validate-parts.js';
import { wholeTrees } from './whole-trees.js';

/** Something that a remote has to do or to be, and whether it does and is. */
export interface Check {
  name: string;
  ok: boolean;
  /** What was found, and what to do when it is not as it should be. */
  detail: string;
  code?: string;
}

export interface ValidateOptions {
  /** Read and hash every block. */
  deep: boolean;
  signal: AbortSignal;
  onProgress?: (progress: { done: number; total: number }) => void;
}

/** How far the clocks of this machine and of the storage may be apart: signatures are refused beyond a quarter of an hour. */
const MOST_SKEW_MS = 5 * 60_000;

/**
 * Finds out whether a storage does what a remote needs of it, and whether what is in it is whole. What is written for that
 * is removed again.
 */
export async function validate(parts: ValidateParts, options: ValidateOptions): Promise<Check[]> {
  const checks: Check[] = [];
  const check = async (name: string, task: () => Promise<string>): Promise<boolean> => {
    try {
      checks.push({ name, ok: true, detail: await task() });
      return true;
    } catch (error) {
      options.signal.throwIfAborted();
      const { message, hint, code } = error as LazytreeError;
      checks.push({
        name,
        ok: false,
        detail: hint ? `${message}; ${hint}` : message,
        ...(code ? { code } : {}),
      });
      return false;
    }
  };
  const { storage } = parts;
  const { signal } = options;
  const reachable = await check('list', async () => {
    for await (const _ of storage.list('refs/', { signal })) break;
    return `${storage.describe()} answers`;
  });
  if (!reachable) return checks;
  const probe = `probe/${randomUUID()}`;
  const written = await check('write', () => write(storage, probe, signal));
  if (written) {
    await check('read a part', () => readPart(storage, probe, signal));
    await check('write only if', () => writeOnlyIf(storage, probe, signal));
    await check('remove', () => remove(storage, probe, signal));
  }
  await check('clock', () => clock(storage, signal));
  await check('tables and packs', () => tablesAndPacks(parts, signal));
  await check('roots and refs', () => rootsAndRefs(storage, signal));
  await check('trees', () => trees(parts, signal));
  if (options.deep) await check('blocks', () => blocks(parts, options));
  return checks;
}

const PROBE = Buffer.from('written by `lazytree remote validate`, and removed again');

async function write(storage: Storage, name: string, signal: AbortSignal): Promise<string> {
  await storage.put(name, [PROBE], { signal, expected: 'nothing' });
  return 'objects can be written';
}

async function readPart(storage: Storage, name: string, signal: AbortSignal): Promise<string> {
  const object = await storage.get(name, { signal, range: { offset: 8, length: 10 } });
  if (!object?.bytes.equals(PROBE.subarray(8, 18)))
    throw new Error('a part of an object is not what was written');
  return 'parts of objects can be read';
}

async function writeOnlyIf(storage: Storage, name: string, signal: AbortSignal): Promise<string> {
  const again = await storage.put(name, [PROBE], { signal, expected: 'nothing' });
  if (again)
    throw new Error('it writes what was to be written only if nothing is there: two pushes may lose one');
  const first = await storage.get(name, { signal });
  const second = await storage.put(name, [PROBE], { signal, expected: { version: first?.version ?? '' } });
  if (!second) throw new Error('it does not write over a version that is there');
  const stale = await storage.put(name, [PROBE], { signal, expected: { version: first?.version ?? '' } });
  if (stale) throw new Error('it writes over another version than was told: two pushes may lose one');
  return 'conditional writes hold';
}

async function remove(storage: Storage, name: string, signal: AbortSignal): Promise<string> {
  await storage.delete(name, { signal });
  if (await storage.get(name, { signal })) throw new Error('what was removed is there still');
  return 'objects can be removed, as `lazytree remote gc` does';
}

async function clock(storage: Storage, signal: AbortSignal): Promise<string> {
  const before = Date.now();
  const there = await storage.now({ signal });
  const skew = there - (before + Date.now()) / 2;
  const seconds = Math.round(skew / 1000);
  if (Math.abs(skew) > MOST_SKEW_MS)
    throw new Error(`its clock is ${seconds} s ahead of this machine's: set this machine's clock`);
  return `its clock is ${seconds} s ahead of this machine's`;
}

async function tablesAndPacks({ storage, index }: ValidateParts, signal: AbortSignal): Promise<string> {
  const tables = await index.list({ signal, newerThan: performance.now() });
  const ends = new Map<string, number>();
  let count = 0;
  for (const { frames } of await readTables({ index }, tables, signal, true)) {
    for (const { frame, links } of frames) {
      count += links.length;
      ends.set(frame.pack, Math.max(ends.get(frame.pack) ?? 0, frame.offset + frame.length));
    }
  }
  let bytes = 0;
  let packs = 0;
  for await (const { name, size } of storage.list(PACKS, { signal })) {
    const id = fromHex(name.slice(PACKS.length));
    if (id === undefined) continue;
    const end = ends.get(id);
    bytes += size;
    packs += 1;
    if (end !== undefined && end > size)
      throw new Error(`'${name}' is cut short: push again what was pushed`);
    ends.delete(id);
  }
  for (const [id] of ends) throw new Error(`'${packName(id)}' is missing: push again what was pushed`);
  return `${tables.length} tables of ${count} blocks in ${packs} packs of ${bytes} bytes`;
}

async function rootsAndRefs(storage: Storage, signal: AbortSignal): Promise<string> {
  const roots = new Set<string>();
  for await (const { name } of storage.list(ROOTS, { signal })) roots.add(name);
  let refs = 0;
  for await (const { ref } of listRemoteRefs(storage, signal)) {
    refs += 1;
    for (const { root } of ref.snapshots) {
      if (!roots.has(rootName(root)))
        throw new Error(`the root ${formatLink(root)} of '${ref.name}' is missing: push it again`);
    }
  }
  return `${refs} refs, ${roots.size} roots`;
}

async function trees(parts: ValidateParts, signal: AbortSignal): Promise<string> {
  const { trees: count, blocks: all } = await wholeTrees(parts, signal);
  return `all ${all} blocks of ${count} roots are in tables`;
}

/** Every block is hashed: a frame says which digests it has to have. */
async function blocks(
  { index, packs }: ValidateParts,
  { signal, onProgress }: ValidateOptions,
): Promise<string> {
  const tables = await index.list({ signal });
  let done = 0;
  let total = 0;
  for (const info of tables) {
    const { frames, links, frameOf } = decodeTable(await index.read(info, signal), info.name);
    total += links.length;
    const wanted = new Map(frames.map((frame) => [frame, [] as string[]]));
    links.forEach((link, i) => {
      wanted.get(frames[frameOf[i]])?.push(linkDigest(link));
    });
    await packs.read(wanted, {
      signal,
      ahead: false,
      async onFrames({ found }) {
        done += found.length;
        onProgress?.({ done, total });
      },
    });
  }
  if (done !== total)
    throw new Error(`${total - done} of ${total} blocks are not what they should be: push them again`);
  return `${done} blocks have the hashes they should have`;
}
