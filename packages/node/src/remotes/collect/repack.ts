import { createHash } from 'node:crypto';
import { type FramePlace, PACK_BYTES, PACK_HEADER } from '@lazytree/core';
import type { FrameEntries } from '../index/table-parts.js';
import { fromHex, PACKS, packName } from '../object-names.js';
import type { PackReader } from '../packs/pack-reader.js';
import type { Storage } from '../storage/storage.js';

export interface Repacked {
  /** All that was given, with the new places of what was moved. */
  frames: FrameEntries[];
  /** What was moved, at its old places. */
  moved: FrameEntries[];
}

/** Packs with less than this part in use are made anew. */
const LEAST_USE = 0.5;
/** Packs with less than this in use are put together with others. */
const SMALL_BYTES = 4 << 20;

/** Copies frames out of packs that are mostly unused, and of small ones, into new packs. Nothing is removed. */
export async function repack(
  { storage, packs }: { storage: Storage; packs: PackReader },
  frames: readonly FrameEntries[],
  signal: AbortSignal,
): Promise<Repacked> {
  const candidates = await worthMoving(storage, frames, signal);
  const stay = frames.filter(({ frame }) => !candidates.has(frame.pack));
  const moved = frames
    .filter(({ frame }) => candidates.has(frame.pack))
    .sort(({ frame: a }, { frame: b }) =>
      a.pack === b.pack ? a.offset - b.offset : a.pack < b.pack ? -1 : 1,
    );
  const result: FrameEntries[] = [...stay];
  let parts: Buffer[] = [PACK_HEADER];
  let size = PACK_HEADER.length;
  let waiting: { entries: FrameEntries; offset: number }[] = [];

  async function finish(): Promise<void> {
    if (waiting.length === 0) return;
    const hash = createHash('sha256');
    for (const part of parts) hash.update(part);
    const pack = hash.digest().toString('latin1');
    await storage.put(packName(pack), parts, { signal });
    for (const { entries, offset } of waiting) {
      const frame: FramePlace = { pack, offset, length: entries.frame.length };
      result.push({ ...entries, frame });
    }
    parts = [PACK_HEADER];
    size = PACK_HEADER.length;
    waiting = [];
  }

  const copied = new Map<string, FrameEntries[]>();
  for (const entries of moved) {
    const key = `${entries.frame.pack}${entries.frame.offset}`;
    copied.set(key, [...(copied.get(key) ?? []), entries]);
  }
  for (const same of copied.values()) {
    const bytes = await packs.bytes(same[0].frame, signal);
    for (const entries of same) waiting.push({ entries, offset: size });
    parts.push(bytes);
    size += bytes.length;
    if (size >= PACK_BYTES) await finish();
  }
  await finish();
  return { frames: result, moved };
}

async function worthMoving(
  storage: Storage,
  frames: readonly FrameEntries[],
  signal: AbortSignal,
): Promise<Set<string>> {
  const used = new Map<string, Map<number, number>>();
  for (const { frame } of frames) {
    const inPack = used.get(frame.pack) ?? new Map<number, number>();
    used.set(frame.pack, inPack.set(frame.offset, frame.length));
  }
  const wasteful = new Set<string>();
  const small = new Set<string>();
  for await (const { name, size } of storage.list(PACKS, { signal })) {
    const id = fromHex(name.slice(PACKS.length));
    const inPack = id === undefined ? undefined : used.get(id);
    if (id === undefined || !inPack) continue;
    const bytes = [...inPack.values()].reduce((sum, length) => sum + length, 0);
    if (bytes < size * LEAST_USE) wasteful.add(id);
    else if (bytes < SMALL_BYTES) small.add(id);
  }
  // One small pack alone gains nothing.
  return small.size + wasteful.size > 1 ? new Set([...wasteful, ...small]) : wasteful;
}
