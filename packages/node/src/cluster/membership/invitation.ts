import { randomBytes } from 'node:crypto';
import { LazytreeError } from '@lazytree/core';
import { authenticate, type ClusterKey, clusterId } from './cluster-key.js';
import { Invitation } from './membership.js';

const PREFIX = 'lazytree1-';
const SALT_BYTES = 16;
/** Of one token; more addresses than a machine has. */
const LIMIT = 8 << 10;

export interface Invited {
  addresses: string[];
  salt: Uint8Array;
  /** Milliseconds since the epoch. */
  expires: number;
  secret: Buffer;
  cluster: string;
}

/** What a token lets its bearer prove. Every member can work it out from the key, and so accept who comes with it. */
export function invitationSecret(key: ClusterKey, salt: Uint8Array, expires: number): Buffer {
  return authenticate(key, 'invitation', [salt, String(Math.floor(expires / 1000))]);
}

export interface InviteOptions {
  key: ClusterKey;
  addresses: string[];
  /** Milliseconds since the epoch. */
  expires: number;
}

export function createToken({ key, addresses, expires }: InviteOptions): string {
  const salt = randomBytes(SALT_BYTES);
  const bytes = Invitation.encode({
    addresses,
    salt,
    expires: BigInt(Math.floor(expires / 1000)),
    secret: invitationSecret(key, salt, expires),
    cluster: clusterId(key),
  });
  return PREFIX + Buffer.from(bytes).toString('base64url');
}

/** @throws LazytreeError USAGE for what is no token, REFUSED for one whose time is over */
export function parseToken(text: string, now = Date.now()): Invited {
  const invitation = decode(text.trim());
  if (!invitation) {
    throw new LazytreeError('USAGE', 'this is not an invitation', {
      hint: 'give the whole line that `lazytree cluster invite` printed',
    });
  }
  const { addresses, salt, secret, cluster } = invitation;
  const expires = Number(invitation.expires) * 1000;
  if (expires <= now) {
    throw new LazytreeError('REFUSED', `the invitation has expired, at ${new Date(expires).toISOString()}`, {
      hint: 'ask for another',
    });
  }
  return { addresses, salt, expires, secret: Buffer.from(secret), cluster };
}

function decode(text: string): Invitation | undefined {
  if (!text.startsWith(PREFIX) || text.length > LIMIT) return undefined;
  try {
    const invitation = Invitation.decode(Buffer.from(text.slice(PREFIX.length), 'base64url'));
    const valid =
      invitation.secret.length === 32 &&
      invitation.salt.length === SALT_BYTES &&
      invitation.expires < 1n << 40n &&
      invitation.addresses.length > 0;
    return valid ? invitation : undefined;
  } catch {
    // Said by the caller.
    return undefined;
  }
}
