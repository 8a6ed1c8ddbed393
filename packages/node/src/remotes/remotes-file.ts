import { mkdir, rm } from 'node:fs/promises';
import { LazytreeError } from '@lazytree/core/errors';
import { remotesFile } from '../home-directory.js';
import { readState, writeState } from '../state-file.js';

/** Where trees are kept outside of the cluster: `remotes.json` of the home. No secrets are in it. */
export interface RemoteConfig {
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

/** In the order in which they were added. @throws LazytreeError CORRUPT */
export async function listRemotes(home: string): Promise<RemoteConfig[]> {
  const file = remotesFile(home);
  const state = await readState(file);
  if (state === undefined) return [];
  const { remotes } = (state ?? {}) as { remotes?: unknown };
  if (Array.isArray(remotes) && remotes.every(isRemote)) return remotes;
  throw new LazytreeError('CORRUPT', `${file} is not what was written there`, {
    hint: 'mend it, or move it away and add the remotes again',
  });
}

function isRemote(value: unknown): value is RemoteConfig {
  const { name, url, endpoint, credentialsFile, created } = (value ?? {}) as Partial<
    Record<keyof RemoteConfig, unknown>
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
export async function findRemote(home: string, name: string): Promise<RemoteConfig> {
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
export async function addRemote(home: string, remote: RemoteConfig): Promise<void> {
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
export async function removeRemote(home: string, name: string): Promise<RemoteConfig> {
  const remote = await findRemote(home, name);
  await writeRemotes(
    home,
    (await listRemotes(home)).filter((one) => one.name !== name),
  );
  return remote;
}

function writeRemotes(home: string, remotes: RemoteConfig[]): Promise<void> {
  // Where there is none, nobody looks for them.
  if (remotes.length === 0) return rm(remotesFile(home), { force: true });
  return writeState(remotesFile(home), { version: 1, remotes });
}
