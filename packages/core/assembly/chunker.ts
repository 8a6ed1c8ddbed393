/**
 * The chunker's search for a cut, compiled to WebAssembly: the same cuts as in src/format/chunker.ts, which says
 * what they are, and a test holds them to each other.
 */

/** Entry i of the gear table, as 32-bit numbers that the caller puts here before the first search. */
const GEAR = memory.data(256 << 2, 16);

export function gearAddress(): usize {
  return GEAR;
}

/**
 * The end of the chunk that begins at `start`, given where the search begins, where the normal size is reached
 * and where the chunk ends at the latest, each no lower than the one before.
 */
export function findCut(first: usize, normal: usize, limit: usize): usize {
  let hash: u32 = 0;
  let at = first;
  while (at < normal) {
    hash = (hash << 1) + load<u32>(GEAR + (<usize>load<u8>(at++) << 2));
    if (hash >> 14 == 0) return at;
  }
  while (at < limit) {
    hash = (hash << 1) + load<u32>(GEAR + (<usize>load<u8>(at++) << 2));
    if (hash >> 18 == 0) return at;
  }
  return limit;
}
