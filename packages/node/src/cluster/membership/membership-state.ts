import { rm } from 'node:fs/promises';
import { LazytreeError } from '@lazytree/core';
import { z } from 'zod';
import { membershipFile } from '../../home-directory.js';
import { readState, writeState } from '../../state-file.js';
import { type ClusterKey, KEY_BYTES } from './cluster-key.js';

/** That this machine is a member, and how it takes part. */
export interface Membership {
  key: ClusterKey;
  /** By which people call this machine. */
  name: string;
  /** Where it listens, as multiaddrs. */
  listen: string[];
  /** Members that are dialled without being discovered, as multiaddrs. */
  peers: string[];
}

const Stored = z.object({
  key: z.base64().refine((text) => Buffer.from(text, 'base64').length === KEY_BYTES, 'not a key'),
  name: z.string(),
  listen: z.array(z.string()),
  peers: z.array(z.string()),
});

/** @returns undefined when the machine is in no cluster. @throws LazytreeError CORRUPT */
export async function readMembership(home: string): Promise<Membership | undefined> {
  const file = membershipFile(home);
  const state = await readState(file);
  if (state === undefined) return undefined;
  try {
    const { key, ...rest } = Stored.parse(state);
    return { ...rest, key: Buffer.from(key, 'base64') };
  } catch (cause) {
    throw new LazytreeError('CORRUPT', `${file} is not what was written there`, {
      cause,
      hint: 'remove it, and join the cluster again',
    });
  }
}

export async function writeMembership(home: string, { key, ...rest }: Membership): Promise<void> {
  await writeState(membershipFile(home), { ...rest, key: key.toString('base64') });
}

export async function removeMembership(home: string): Promise<void> {
  await rm(membershipFile(home), { force: true });
}
