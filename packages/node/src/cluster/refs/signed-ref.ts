import { checkRefName, type Link } from '@lazytree/core';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id';
import { RefStatement, type SignedRef } from '../exchange/exchange.js';
import { decodeLinks, encodeLinks } from '../exchange/link-list.js';

export type { SignedRef };

/** What a peer says that a name of its own stands for. */
export interface PublishedRef {
  /** The peer id of whoever publishes it. */
  owner: string;
  /** By which people call that peer. */
  ownerName: string;
  name: string;
  /** Absent when the ref was removed. */
  root?: Link | undefined;
  /** Grows with every change: of two statements the one with the greater holds. */
  sequence: number;
  /** Milliseconds since the epoch. */
  time: number;
}

const CONTEXT = Buffer.from('lazytree ref 1\n');
const NAME = /^[\p{L}\p{N}][\p{L}\p{N}._-]{0,62}$/u;
/** Bytes of a statement. */
const LIMIT = 1024;

export function isPeerName(text: string): boolean {
  return NAME.test(text);
}

export async function signRef(key: PrivateKey, ref: Omit<PublishedRef, 'owner'>): Promise<SignedRef> {
  const { ownerName, name, root, sequence, time } = ref;
  const statement = RefStatement.encode({
    owner: peerIdFromPrivateKey(key).toString(),
    ownerName,
    name,
    root: root === undefined ? new Uint8Array() : encodeLinks([root]),
    sequence: BigInt(sequence),
    time: BigInt(time),
  });
  const signature = await key.sign(Buffer.concat([CONTEXT, statement]));
  return { statement: Uint8Array.from(statement), signature: Uint8Array.from(signature) };
}

/** What was signed, if it was signed by the owner that it names, and is of this form; undefined otherwise. */
export async function verifyRef({ statement, signature }: SignedRef): Promise<PublishedRef | undefined> {
  if (statement.length > LIMIT || signature.length > LIMIT) return undefined;
  try {
    const { owner, ownerName, name, root, sequence, time } = RefStatement.decode(statement);
    const key = peerIdFromString(owner).publicKey;
    if (!key || !(await key.verify(Buffer.concat([CONTEXT, statement]), signature))) return undefined;
    checkRefName(name);
    if (!isPeerName(ownerName) || sequence < 1n || !isSafe(sequence) || !isSafe(time)) return undefined;
    const [link] = decodeLinks(root, 1);
    return { owner, ownerName, name, root: link, sequence: Number(sequence), time: Number(time) };
  } catch {
    // Whatever is wrong with it, it is no statement of anybody's.
    return undefined;
  }
}

function isSafe(value: bigint): boolean {
  return value <= BigInt(Number.MAX_SAFE_INTEGER);
}
