// Data that does not compress, at a gigabyte a second or more, the same for the same seed.
import { createCipheriv } from 'node:crypto';

/**
 * @param {number} seed
 * @returns {(bytes: number) => Buffer} the next that many bytes
 */
export function randomBytes(seed) {
  const key = Buffer.alloc(32);
  key.writeUInt32LE(seed);
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  return (bytes) => cipher.update(Buffer.alloc(bytes));
}
