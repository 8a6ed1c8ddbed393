import { InvalidNodeError } from '../errors.js';
import { type Codec, DIGEST_BYTES, type Link } from '../format/link.js';

const TAG = 6;
const SIMPLE = 7;
/** Multibase prefix, CIDv1; then the codec, sha2-256 and its length: see the reader in format/cbor.ts. */
const CID_BYTES = 5 + DIGEST_BYTES;

/**
 * The links in a DAG-CBOR block in their order, without looking at what the block means.
 *
 * @param only those of this codec; most links are to content, and each is a string
 * @throws InvalidNodeError for what is not DAG-CBOR, or has links that are not of this format
 */
export function nodeLinks(bytes: Uint8Array, only?: Codec): Link[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const links: Link[] = [];
  let at = 0;

  function fail(what: string): never {
    throw new InvalidNodeError(`${what} at byte ${at}`);
  }

  // Byte by byte: this is called for every field of every node, and Buffer's methods check what is known here.
  function argument(info: number): number {
    if (info < 24) return info;
    const size = info > 27 ? fail('indefinite or reserved length') : 1 << (info - 24);
    if (at + size > buffer.length) fail('truncated');
    let value = 0;
    for (const end = at + size; at < end; at++) value = value * 256 + buffer[at];
    return value;
  }

  function link(): void {
    const isLink =
      buffer[at] === 0x58 && buffer[at + 1] === 0x25 && buffer[at + 2] === 0 && buffer[at + 3] === 1;
    if (at + 2 + CID_BYTES > buffer.length || !isLink) fail('expected a link');
    if (buffer[at + 5] !== 0x12 || buffer[at + 6] !== 0x20) fail('link that is not sha2-256');
    const codec = buffer[at + 4];
    if (only === undefined || codec === only) {
      links.push(
        (String.fromCharCode(codec) + buffer.toString('latin1', at + 7, at + 7 + DIGEST_BYTES)) as Link,
      );
    }
    at += 2 + CID_BYTES;
  }

  for (let items = 1; items > 0; items--) {
    if (at >= buffer.length) fail('truncated');
    const first = buffer[at++];
    const major = first >>> 5;
    const value = argument(first & 31);
    if (major === TAG) value === 42 ? link() : fail('unknown tag');
    else if (major === 2 || major === 3) at += value;
    else if (major === 4 || major === 5) {
      items += major === 4 ? value : value * 2;
      if (items > buffer.length) fail('a list longer than its input');
    } else if (major === SIMPLE && (first & 31) > 23 && (first & 31) < 27)
      fail('a float that is not canonical');
  }
  if (at !== buffer.length) fail('another length than the block has');
  return links;
}
