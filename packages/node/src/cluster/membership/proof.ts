import { randomBytes } from 'node:crypto';
import { LazytreeError } from '@lazytree/core';
import type { MessageStream } from '../message-stream.js';
import { authenticate, NONCE_BYTES, sameBytes } from './cluster-key.js';
import { Challenge, Proof } from './membership.js';

/** Bytes of any message of these protocols. */
export const LIMIT = 16 << 10;

export interface ProofOptions {
  stream: MessageStream;
  /** What both have to know. */
  key: Buffer;
  purpose: 'membership' | 'join';
  /** Peer ids: noise has made sure of them. */
  self: string;
  other: string;
  signal: AbortSignal;
}

/**
 * Proves to the peer that was dialled that we know the key, and then has it prove the same. Both have made a nonce, and
 * each proof names both of them, both peers and who of them dialled: none is worth anything in another conversation.
 *
 * @throws LazytreeError REFUSED when it does not know the key, or says that we do not
 */
export async function proveAsDialer({
  stream,
  key,
  purpose,
  self,
  other,
  signal,
}: ProofOptions): Promise<void> {
  const ours = randomBytes(NONCE_BYTES);
  await stream.send(Challenge.encode({ nonce: ours }), signal);
  const theirs = await nonceFrom(stream, signal);
  const parts = [ours, theirs, self, other];
  await stream.send(Proof.encode({ proof: authenticate(key, `${purpose} dialer`, parts) }), signal);
  const { proof } = Proof.decode(await next(stream, signal));
  if (!sameBytes(proof, authenticate(key, `${purpose} listener`, parts))) throw refused(other);
}

/**
 * Has the peer that dialled prove that it knows a key, and proves the same in turn. Until it has, it has learnt a nonce
 * and nothing else.
 *
 * @throws LazytreeError REFUSED
 */
export async function proveAsListener({
  stream,
  key,
  purpose,
  self,
  other,
  signal,
}: ProofOptions): Promise<void> {
  const theirs = await nonceFrom(stream, signal);
  const ours = randomBytes(NONCE_BYTES);
  await stream.send(Challenge.encode({ nonce: ours }), signal);
  const parts = [theirs, ours, other, self];
  const { proof } = Proof.decode(await next(stream, signal));
  if (!sameBytes(proof, authenticate(key, `${purpose} dialer`, parts))) throw refused(other);
  await stream.send(Proof.encode({ proof: authenticate(key, `${purpose} listener`, parts) }), signal);
}

async function nonceFrom(stream: MessageStream, signal: AbortSignal): Promise<Uint8Array> {
  const { nonce } = Challenge.decode(await next(stream, signal));
  if (nonce.length !== NONCE_BYTES) throw new LazytreeError('REFUSED', 'a challenge that is none');
  return nonce;
}

/** A peer that refuses ends the stream. */
export async function next(stream: MessageStream, signal: AbortSignal): Promise<Buffer> {
  const message = await stream.receive(signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw new LazytreeError('REFUSED', 'the peer refused', { cause: error });
  });
  if (!message) throw new LazytreeError('REFUSED', 'the peer refused');
  return message;
}

function refused(peer: string): LazytreeError {
  return new LazytreeError('REFUSED', `the peer ${peer} does not know the key`);
}
