import type { Given } from '../tree/push-planner.js';

/** Node ids for which there is a bit; larger ones are never known to be given. */
const NODES = 8 << 20;

export function allocateGiven(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 + NODES / 8);
}

/** The bits are without locks: one that is lost costs one push too many. */
export function givenIn(memory: SharedArrayBuffer): Given {
  const underWay = new Int32Array(memory, 0, 1);
  const bits = new Uint8Array(memory, 4);
  return {
    has: (node) => node < NODES && (bits[node >>> 3] & (1 << (node & 7))) !== 0,
    add(node) {
      if (node < NODES) bits[node >>> 3] |= 1 << (node & 7);
    },
    delete(node) {
      if (node < NODES) bits[node >>> 3] &= ~(1 << (node & 7));
    },
    begin() {
      Atomics.add(underWay, 0, 1);
    },
    end() {
      Atomics.sub(underWay, 0, 1);
    },
    idle: () => Atomics.load(underWay, 0) === 0,
  };
}
