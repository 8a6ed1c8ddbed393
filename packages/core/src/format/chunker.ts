import { GEAR } from './gear.js';

/** Sizes of chunks in bytes. Part of format v1: another value gives other roots. */
export const MIN_CHUNK = 16 << 10;
export const AVERAGE_CHUNK = 64 << 10;
export const MAX_CHUNK = 256 << 10;

/**
 * The end of the chunk that begins at `start`: FastCDC with normalised chunking (Xia et al., USENIX ATC '16,
 * section 4.4, level 2) over a 32-bit gear hash. Below the average size a cut needs 18 zero bits at the top of
 * the hash, above it 14.
 *
 * `end` is the end of the content, or at least `start + MAX_CHUNK`.
 */
export function chunkEnd(bytes: Uint8Array, start: number, end: number): number {
  return searchCut(start, end, (first, normal, limit) => findCut(bytes, first, normal, limit));
}

/** {@link chunkEnd} with another way to look for a cut: from `first` on, the rare one before `normal`. */
export function searchCut(
  start: number,
  end: number,
  find: (first: number, normal: number, limit: number) => number,
): number {
  if (end - start <= MIN_CHUNK) return end;
  const limit = Math.min(end, start + MAX_CHUNK);
  return find(start + MIN_CHUNK, Math.min(limit, start + AVERAGE_CHUNK), limit);
}

function findCut(bytes: Uint8Array, first: number, normal: number, limit: number): number {
  let at = first;
  let hash = 0;
  while (at < normal) {
    hash = ((hash << 1) + GEAR[bytes[at++]]) | 0;
    if (hash >>> 14 === 0) return at;
  }
  while (at < limit) {
    hash = ((hash << 1) + GEAR[bytes[at++]]) | 0;
    if (hash >>> 18 === 0) return at;
  }
  return limit;
}
