/**
 * Divides what several machines bring at the same time among them, without a word between them: rendezvous hashing. For
 * each place every machine has a score that all of them know, and the one with the highest owns it.
 */

/** How a machine stands for a place, from 0 to 1. */
export function score(machine: number, place: number): number {
  let hash = machine ^ Math.imul(place, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 0x1_0000_0000;
}

/** A machine's id as a number (FNV-1a). */
export function machineHash(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** A digest as a number. It is as good as random already. */
export function placeOf(digest: string): number {
  return (
    ((digest.charCodeAt(0) << 24) |
      (digest.charCodeAt(1) << 16) |
      (digest.charCodeAt(2) << 8) |
      digest.charCodeAt(3)) >>>
    0
  );
}

/** The index of the owner of a place among machines. */
export function ownerOf(machines: readonly number[], place: number): number {
  let owner = 0;
  let best = -1;
  for (let i = 0; i < machines.length; i++) {
    const its = score(machines[i], place);
    if (its <= best) continue;
    best = its;
    owner = i;
  }
  return owner;
}
