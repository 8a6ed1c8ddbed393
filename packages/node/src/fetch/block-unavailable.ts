import { BlockMissingError, formatLink, isMissing, LazytreeError, type Link } from '@lazytree/core';
import type { Tried } from './first-answer.js';

const HINTS = {
  peers: 'run `lazytree cluster peers` to see who is there',
  remotes: 'run `lazytree remote validate NAME` to see what is wrong with a remote',
};

/** A block that somebody may have, and nobody has delivered. */
export class BlockUnavailableError extends LazytreeError {
  readonly cid: string;

  /**
   * @param tried everyone who was asked, and why it did not help
   * @param failing who may have it, for an error of the network: for its hint
   */
  constructor(cid: string, tried: string, failing?: 'peers' | 'remotes') {
    super(failing ? 'NETWORK' : 'FAILED', `block ${cid} cannot be had: ${tried}`, {
      ...(failing && { hint: HINTS[failing] }),
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
  const failed = tried.filter(({ why }) => why !== 'missing').map(({ peer }) => peer.provider.tier);
  if (away.length === 0 && failed.length === 0) {
    if (unknown) return new BlockUnavailableError(formatLink(link), said);
    return new BlockMissingError(formatLink(link), said);
  }
  const onlyRemotes = away.length === 0 && failed.every((tier) => tier === 'remote');
  return new BlockUnavailableError(formatLink(link), said, onlyRemotes ? 'remotes' : 'peers');
}

function describeTried(tried: readonly Tried[]): string[] {
  return tried.map(({ peer: { provider }, why }) => {
    return `${provider.describe()}: ${why === 'missing' ? 'missing' : why.message}`;
  });
}
