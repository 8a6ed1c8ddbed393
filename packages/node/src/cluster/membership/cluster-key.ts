import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/** What the members of a cluster know and nobody else does: 32 random bytes. All else is derived from it. */
export type ClusterKey = Buffer;

export const KEY_BYTES = 32;
export const NONCE_BYTES = 32;

export function newClusterKey(): ClusterKey {
  return randomBytes(KEY_BYTES);
}

/** Names a cluster, and says nothing of its key. */
export function clusterId(key: ClusterKey): string {
  return createHash('sha256').update('lazytree cluster id 1\n').update(key).digest('hex').slice(0, 16);
}

/** By which members find each other on a network, and strangers do not even meet. */
export function discoveryTag(key: ClusterKey): string {
  return `_lt-${authenticate(key, 'discovery', []).toString('hex').slice(0, 20)}._tcp.local`;
}

/**
 * HMAC-SHA256 over a purpose and parts, each with its length, so that no two lists of them are the same bytes
 * (RFC 2104).
 */
export function authenticate(key: Buffer, purpose: string, parts: readonly (Uint8Array | string)[]): Buffer {
  const mac = createHmac('sha256', key).update(`lazytree ${purpose} 1\n`);
  for (const part of parts) {
    const bytes = Buffer.from(part as Uint8Array);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    mac.update(length).update(bytes);
  }
  return mac.digest();
}

/** In the same time whatever differs. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
