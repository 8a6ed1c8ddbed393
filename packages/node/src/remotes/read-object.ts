import { LazytreeError } from '@lazytree/core';
import type { Storage, StoredObject } from './storage/storage.js';

/**
 * An object that has no reason to be large, as a whole. No more of it than the limit is ever read.
 *
 * @returns undefined when there is no such object @throws LazytreeError CORRUPT when it is larger
 */
export async function readObject(
  storage: Storage,
  name: string,
  { most, signal }: { most: number; signal: AbortSignal },
): Promise<StoredObject | undefined> {
  const object = await storage.get(name, { range: { offset: 0, length: most + 1 }, signal });
  if (!object || object.bytes.length <= most) return object;
  throw new LazytreeError('CORRUPT', `'${name}' of ${storage.describe()} is larger than it can be`);
}
