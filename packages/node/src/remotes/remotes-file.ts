import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { LazytreeError } from '@lazytree/core/errors';
import { readState, writeState } from '../state-file.js';

/** Where trees are kept outside of the cluster: `remotes.json` of the home. No secrets are in it. */
export interface Remote {
  name: string;
  url: string;
  /** The URL of the account's blobs, where it is not Azure's own. */
  endpoint?: string | undefined;
  /** An absolute path. */
  credentialsFile?: string | undefined;
  /** Milliseconds since the epoch. */
  created: number;
}

const NAME = /^[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}$/;

/** @throws LazytreeError USAGE */
export function checkRemoteName(name: string): void {
  if (NAME.test(name)) return;
  throw new LazytreeError('USAGE', `'${name}' cannot be the name of a remote`, {
    hint: 'use up to 100 letters, digits and . _ + - with a letter, digit or _ first',
  });
}

function remotesFile(home: string): string {
  return join(home, 'remotes.json');
}

/** By name. @throws LazytreeError CORRUPT */
export async function listRemotes(home: string): Promise<Remote[]> {
  const file = remotesFile(home);
  const state = await readState(file);
  if (state === undefined) return [];
  const { remotes } = (state ?? {}) as { remotes?: unknown };
  if (Array.isArray(remotes) && remotes.every(isRemote))
    return remotes.sort((a, b) => (a.name < b.name ? -1 : 1));
  throw new LazytreeError('CORRUPT', `${file} is not what was written there`, {
    hint: 'mend it, or move it away and add the remotes again',
  });
}

function isRemote(value: unknown): value is Remote {
  const { name, url, endpoint, credentialsFile, created } = (value ?? {}) as Partial<
    Record<keyof Remote, unknown>
  >;
  const isText = (text: unknown) => text === undefined || typeof text === 'string';
  return (
    typeof name === 'string' &&
    NAME.test(name) &&
    typeof url === 'string' &&
    typeof created === 'number' &&
    isText(endpoint) &&
    isText(credentialsFile)
  );
}

/** @throws LazytreeError NOT_FOUND */
export async function findRemote(home: string, name: string): Promise<Remote> {
  const remotes = await listRemotes(home);
  const remote = remotes.find((one) => one.name === name);
  if (remote) return remote;
  const known = remotes.map((one) => one.name).join(', ');
  throw new LazytreeError('NOT_FOUND', `there is no remote '${name}'`, {
    hint: known === '' ? 'add one: `lazytree remote add NAME URL`' : `there are: ${known}`,
  });
}

/**
 * To be called by one at a time: see `Context.inTurn`.
 *
 * @throws LazytreeError USAGE, REFUSED when the name is taken
 */
export async function addRemote(home: string, remote: Remote): Promise<void> {
  checkRemoteName(remote.name);
  const remotes = await listRemotes(home);
  if (remotes.some(({ name }) => name === remote.name)) {
    throw new LazytreeError('REFUSED', `there is a remote '${remote.name}' already`, {
      hint: `choose another name, or run \`lazytree remote rm ${remote.name}\` first`,
    });
  }
  await mkdir(home, { recursive: true });
  await writeRemotes(home, [...remotes, remote]);
}

/** What is stored there stays. To be called by one at a time. @throws LazytreeError NOT_FOUND */
export async function removeRemote(home: string, name: string): Promise<Remote> {
  const remote = await findRemote(home, name);
  await writeRemotes(
    home,
    (await listRemotes(home)).filter((one) => one.name !== name),
  );
  return remote;
}

function writeRemotes(home: string, remotes: Remote[]): Promise<void> {
  return writeState(remotesFile(home), { version: 1, remotes });
}
