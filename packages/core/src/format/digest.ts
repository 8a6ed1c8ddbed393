import { hash } from 'node:crypto';

export const DIGEST_BYTES = 32;

/** The 32 digest bytes of `bytes` as Latin-1 text. */
export function digestOf(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'binary');
}
