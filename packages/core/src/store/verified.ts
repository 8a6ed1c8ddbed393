import { CorruptBlockError } from '../errors.js';
import { MAX_BLOCK_BYTES } from '../format/limits.js';
import { digestOf, formatLink, type Link, linkDigest } from '../format/link.js';

/** Returns `bytes` if they are what `link` names. @throws CorruptBlockError */
export function checkBytes(link: Link, bytes: Uint8Array, where: string): Uint8Array {
  if (bytes.length > MAX_BLOCK_BYTES) {
    throw new CorruptBlockError(formatLink(link), where, `${bytes.length} bytes, more than a block can have`);
  }
  if (digestOf(bytes) !== linkDigest(link)) {
    throw new CorruptBlockError(formatLink(link), where, 'its content has another hash');
  }
  return bytes;
}
