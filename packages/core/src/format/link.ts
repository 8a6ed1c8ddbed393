import { base16, base16upper } from 'multiformats/bases/base16';
import { base32upper } from 'multiformats/bases/base32';
import { base36upper } from 'multiformats/bases/base36';
import { base64url } from 'multiformats/bases/base64';
import { CID } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';
import { LazytreeError } from '../errors.js';
import { DIGEST_BYTES, digestOf } from './digest.js';
import { LINK_LENGTH } from './link-length.js';

export { DIGEST_BYTES, digestOf, LINK_LENGTH };

/** Multicodec of file content. */
export const RAW = 0x55;
/** Multicodec of nodes. */
export const DAG_CBOR = 0x71;
const SHA2_256 = 0x12;

export type Codec = typeof RAW | typeof DAG_CBOR;

/**
 * A CIDv1 with sha2-256 in the form that the engine works with: 33 Latin-1 characters, the codec and then the
 * 32 digest bytes. A string compares, hashes and travels between threads at no cost, which a CID object does
 * not. {@link linkToCid} and {@link parseLink} convert at the edges.
 */
export type Link = string & { readonly __brand: 'Link' };

export function makeLink(codec: Codec, digest: string): Link {
  return (String.fromCharCode(codec) + digest) as Link;
}

export function linkTo(codec: Codec, bytes: Uint8Array): Link {
  return makeLink(codec, digestOf(bytes));
}

export function linkCodec(link: Link): Codec {
  return link.charCodeAt(0) as Codec;
}

/** The digest part of a link, as 32 Latin-1 characters. */
export function linkDigest(link: Link): string {
  return link.slice(1);
}

export function linkToCid(link: Link): CID {
  return CID.createV1(linkCodec(link), createDigest(SHA2_256, Buffer.from(linkDigest(link), 'latin1')));
}

/** The canonical text form (base32 CIDv1). */
export function formatLink(link: Link): string {
  return linkToCid(link).toString();
}

/** @throws LazytreeError UNSUPPORTED for a CID that is not v1, sha2-256, and raw or dag-cbor */
export function cidToLink(cid: CID): Link {
  const { code, size, digest } = cid.multihash;
  if (cid.version !== 1 || code !== SHA2_256 || size !== DIGEST_BYTES || digest.length !== DIGEST_BYTES) {
    throw new LazytreeError('UNSUPPORTED', `${cid} is not a CIDv1 with sha2-256`);
  }
  if (cid.code !== RAW && cid.code !== DAG_CBOR) {
    throw new LazytreeError('UNSUPPORTED', `${cid} is neither raw nor dag-cbor`);
  }
  return makeLink(cid.code, Buffer.from(digest).toString('latin1'));
}

/** Bases of text forms, by the letter that such a text begins with; besides those that CID knows by itself. */
const BASES = [base16, base16upper, base32upper, base36upper, base64url];

/** @throws LazytreeError USAGE for text that is not a CID; UNSUPPORTED as {@link cidToLink} */
export function parseLink(text: string): Link {
  const base = BASES.find(({ prefix }) => text.startsWith(prefix));
  let cid: CID;
  try {
    cid = CID.parse(text, base);
  } catch (cause) {
    throw new LazytreeError('USAGE', `'${text}' is not a CID`, { cause });
  }
  return cidToLink(cid);
}
