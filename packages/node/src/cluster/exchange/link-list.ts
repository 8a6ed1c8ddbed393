import { DAG_CBOR, DIGEST_BYTES, LazytreeError, type Link, RAW } from '@lazytree/core';

const LINK_BYTES = 1 + DIGEST_BYTES;

/** Links as they are in messages: one after another, a codec and a digest each. */
export function encodeLinks(links: readonly Link[]): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.alloc(links.length * LINK_BYTES);
  for (let i = 0; i < links.length; i++) bytes.write(links[i], i * LINK_BYTES, LINK_BYTES, 'latin1');
  return bytes;
}

/** @throws LazytreeError NETWORK for what are no links, or more than `most` */
export function decodeLinks(bytes: Uint8Array, most: number): Link[] {
  if (bytes.length % LINK_BYTES !== 0 || bytes.length > most * LINK_BYTES) {
    throw new LazytreeError('NETWORK', `${bytes.length} bytes that are no list of at most ${most} links`);
  }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const links: Link[] = [];
  for (let at = 0; at < bytes.length; at += LINK_BYTES) {
    if (bytes[at] !== RAW && bytes[at] !== DAG_CBOR)
      throw new LazytreeError('NETWORK', 'a link of another codec');
    links.push(text.toString('latin1', at, at + LINK_BYTES) as Link);
  }
  return links;
}
