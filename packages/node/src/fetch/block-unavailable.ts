import { BlockMissingError, formatLink, isMissing, LazytreeError, type Link } from '@lazytree/core';
import type { Tried } from './first-answer.js';

/** A block that somebody may have, and nobody has delivered. */
export class BlockUnavailableError extends LazytreeError {
  readonly cid: string;

  /** @param tried everyone who was asked, and why it did not help */
  constructor(cid: string, tried: string, code: 'FAILED' | 'NETWORK' = 'FAILED') {
    super(code, `block ${cid} cannot be had: ${tried}`, {
      ...(code === 'NETWORK' && { hint: 'run `lazytree cluster peers` to see who is there' }),
    });
    this.name = 'BlockUnavailableError';
    this.cid = cid;
  }
}

/** Whether a block could not be had, for whatever reason: who fetches it ahead leaves that to whoever needs it. */
export function isUnavailable(error: unknown): boolean {
  return isMissing(error) || error instanceof BlockUnavailableError;
}

/** What was found before the providers were asked. */
export interface FoundHere {
  /** What everybody on this machine said. */
  here: readonly string[];
  /** Somebody here may have it, and could not deliver. */
  unknown: boolean;
  /** Providers that are known, and cannot be asked now: they may have it. */
  away: readonly string[];
}

/** Says that the providers have not delivered a block: missing if that is what everybody said. */
export function notDelivered(
  link: Link,
  tried: readonly Tried[],
  { here, unknown, away }: FoundHere,
): LazytreeError {
  const absent = away.map((peer) => `${peer}: not connected`);
  const said = [...here, ...describeTried(tried), ...absent].join('; ');
  const failed = away.length > 0 || tried.some(({ why }) => why !== 'missing');
  if (!failed && unknown) return new BlockUnavailableError(formatLink(link), said);
  if (!failed) return new BlockMissingError(formatLink(link), said);
  return new BlockUnavailableError(formatLink(link), said, 'NETWORK');
}

function describeTried(tried: readonly Tried[]): string[] {
  return tried.map(({ peer: { provider }, why }) => {
    return `${provider.describe()}: ${why === 'missing' ? 'missing' : why.message}`;
  });
}
