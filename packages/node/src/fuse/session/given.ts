import type { Given } from '../tree/push-planner.js';

/** Node ids for which there is a bit; larger ones are never known to be given. */
const NODES = 8 << 20;

export function allocateGiven(): SharedArrayBuffer {
  return new SharedArrayBuffer(NODES / 8);
}

/** Without locks: a bit that is lost costs one push too many. */
export function givenIn(memory: SharedArrayBuffer): Given {
  const bits = new Uint8Array(memory);
  return {
    has: (node) => node < NODES && (bits[node >>> 3] & (1 << (node & 7))) !== 0,
    add(node) {
      if (node < NODES) bits[node >>> 3] |= 1 << (node & 7);
    },
    delete(node) {
      if (node < NODES) bits[node >>> 3] &= ~(1 << (node & 7));
    },
  };
}
