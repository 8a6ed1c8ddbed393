/**
 * A set of digests in 8 bytes each, for millions of them. It remembers 48 bits of a digest: it never forgets a
 * member, and takes a stranger for one with a probability of members / 2^48. Callers use it where that error
 * only keeps something a little longer.
 */
export interface FingerprintSet {
  /** Returns whether the digest was new. `salt` tells apart several uses of one digest. */
  add(digest: string, salt?: number): boolean;
  has(digest: string, salt?: number): boolean;
}

export function createFingerprintSet(): FingerprintSet {
  let slots = new Float64Array(1024);
  let size = 0;

  /** The slot of `key`, or the empty one where it belongs. */
  function find(table: Float64Array, key: number): number {
    const mask = table.length - 1;
    let slot = (key % 0x7fffffff) & mask;
    while (table[slot] !== 0 && table[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }

  function grow(): void {
    const larger = new Float64Array(slots.length * 2);
    for (const key of slots) if (key !== 0) larger[find(larger, key)] = key;
    slots = larger;
  }

  return {
    add(digest, salt = 0) {
      const key = fingerprint(digest, salt);
      const slot = find(slots, key);
      if (slots[slot] === key) return false;
      slots[slot] = key;
      size += 1;
      if (size * 2 > slots.length) grow();
      return true;
    },
    has(digest, salt = 0) {
      return slots[find(slots, fingerprint(digest, salt))] !== 0;
    },
  };
}

function fingerprint(digest: string, salt: number): number {
  const high = (digest.charCodeAt(0) << 8) | digest.charCodeAt(1);
  const low =
    (digest.charCodeAt(2) << 24) |
    (digest.charCodeAt(3) << 16) |
    (digest.charCodeAt(4) << 8) |
    digest.charCodeAt(5);
  return high * 0x100000000 + ((low ^ Math.imul(salt, 0x9e3779b1)) >>> 0) || 1;
}
