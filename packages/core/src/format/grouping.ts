import { nameToBytes } from './name.js';

/**
 * How long lists become several nodes: cuts depend on the items themselves, so that an edit of one item moves
 * no cut but its own (as in a prolly tree). Part of format v1.
 */

/** A list of at most this many items, and of at most {@link MAX_GROUP_BYTES}, is one node. */
export const SINGLE_NODE_ITEMS = 2048;
const MIN_GROUP = 256;
export const MAX_GROUP = 4096;
export const MAX_GROUP_BYTES = 512 << 10;
const CUT_MASK = 1023;

/** Whether a group ends after an item with this hash, the group's item and byte counts including it. */
export function endsGroup(itemHash: number, items: number, bytes: number): boolean {
  return (
    (items >= MIN_GROUP && (itemHash & CUT_MASK) === 0) || items >= MAX_GROUP || bytes >= MAX_GROUP_BYTES
  );
}

/** FNV-1a over the name's bytes, finished as MurmurHash3 finishes (fmix32), so that the low bits are good. */
export function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of nameToBytes(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
