import { createHash } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, LazytreeError } from '@lazytree/core';
import type { OriginContext } from '../driver.js';
import { fetchProgress } from './fetch-progress.js';
import { lockFile } from './file-lock.js';
import { readingEnvironment, transportEnvironment } from './git-environment.js';
import { type GitOptions, runGit } from './git-process.js';
import { OUR_CONFIGURATION } from './our-configuration.js';
import { listRemoteRefs } from './remote-refs.js';

/** What is kept of a repository: bare, without history, one commit after another. */
export interface CacheRepository {
  directory: string;
  /** For people. */
  where: string;
}

export interface CommitRequest {
  url: string;
  /** 40 or 64 characters. */
  commit: string;
  context: OriginContext;
}

/** Packs after which a repository is begun anew: each fetch brings one, and all of them are searched. */
const MAX_PACKS = 40;

/** That the server would give the commit by a name, or with its history, and not so. */
const NOT_SO =
  /unadvertised object|does not support shallow|does not support --depth|no such remote ref|dumb http transport/i;

/**
 * Calls `read` with a repository that has a commit whole, which is fetched when it is not there: as one pack, with what
 * the repository already has left out. Others may read it meanwhile, and nobody changes it. A repository that turns out
 * to be damaged is made anew, once.
 *
 * @throws LazytreeError as git, and whatever `read` throws
 */
export async function withCommit<T>(
  request: CommitRequest,
  read: (repository: CacheRepository) => Promise<T>,
): Promise<T> {
  const { url, commit, context } = request;
  const { signal } = context;
  const place = join(await context.cacheDirectory(), repositoryName(url, commit));
  await mkdir(place, { recursive: true });
  const repository = { directory: join(place, 'repository'), where: url };
  for (let attempt = 1; ; attempt++) {
    const lock = await lockFile(join(place, 'lock'), signal);
    let wasThere = false;
    try {
      wasThere = await hasBegun(repository.directory);
      await bring(repository, request);
      await lock.share();
      return await read(repository);
    } catch (error) {
      signal.throwIfAborted();
      if (attempt > 1 || !wasThere || !mayBeDamage(error)) throw error;
    } finally {
      await lock.release();
    }
    await remove(place, repository.directory, signal);
  }
}

/** Repositories of one URL with ids of different lengths are two. */
function repositoryName(url: string, commit: string): string {
  return `${createHash('sha256').update(url).digest('hex').slice(0, 32)}-${commit.length * 4}`;
}

/** Failures that a repository of ours has no part in. */
const othersFailures = new WeakSet<LazytreeError>();

function mayBeDamage(error: unknown): boolean {
  if (!(error instanceof LazytreeError)) return true;
  return !othersFailures.has(error) && error.code !== 'NO_SPACE' && error.code !== 'UNSUPPORTED';
}

async function remove(place: string, directory: string, signal: AbortSignal): Promise<void> {
  const lock = await lockFile(join(place, 'lock'), signal);
  try {
    await rm(directory, { recursive: true, force: true });
  } finally {
    await lock.release();
  }
}

async function hasBegun(directory: string): Promise<boolean> {
  try {
    return (await stat(directory)).isDirectory();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Sees to it that the repository has the commit. */
async function bring(repository: CacheRepository, { url, commit, context }: CommitRequest): Promise<void> {
  const { signal, environment } = context;
  const { directory, where } = repository;
  const local: GitOptions = { signal, environment: readingEnvironment(environment), where };
  if ((await hasBegun(directory)) && (await hasCommit(directory, commit, local))) return;
  await tidy(directory);
  if (!(await hasBegun(directory))) {
    const format = commit.length === 64 ? 'sha256' : 'sha1';
    await runGit(
      ['init', '--quiet', '--bare', '--template=', `--object-format=${format}`, '--', directory],
      local,
    );
  }
  const name = `refs/lazytree/${commit}`;
  const remote = (args: readonly string[]) => fetchWith(repository, { url, args, context });
  try {
    await remote(['--depth=1', '--', url, `+${commit}:${name}`]);
  } catch (error) {
    if (!(error instanceof LazytreeError) || !NOT_SO.test(error.message)) throw error;
    await fetchOtherwise(repository, { url, commit, context });
  }
}

/** From servers that give refs alone: the one that is at the commit, or else all of them with their history. */
async function fetchOtherwise(
  repository: CacheRepository,
  { url, commit, context }: CommitRequest,
): Promise<void> {
  const { signal, environment } = context;
  const name = `refs/lazytree/${commit}`;
  const remote = (args: readonly string[]) => fetchWith(repository, { url, args, context });
  const refs = await listRemoteRefs(url, [], {
    signal,
    environment: transportEnvironment(environment),
    where: url,
  });
  const at = refs.find(({ id, name }) => id === commit && name.startsWith('refs/'));
  if (at) {
    try {
      await remote(['--depth=1', '--', url, `+${at.name}:${name}`]);
      return;
    } catch (error) {
      if (!(error instanceof LazytreeError) || !NOT_SO.test(error.message)) throw error;
    }
  }
  const everything = ['+refs/heads/*:refs/all/heads/*', '+refs/tags/*:refs/all/tags/*'];
  const shallow = await isShallow(repository.directory);
  await remote([...(shallow ? ['--unshallow'] : []), '--', url, ...everything]);
  const local: GitOptions = { signal, environment: readingEnvironment(environment), where: url };
  if (!(await hasObject(repository.directory, commit, local)))
    throw new LazytreeError('NOT_FOUND', `${url} has no commit ${commit} on a branch or tag`, {
      hint: 'check the commit; a branch that was rewritten no longer has what it had',
    });
  await runGit(['--git-dir', repository.directory, 'update-ref', name, commit], local);
}

/** What was left out, because it was here, is not. */
const LACKS_A_BASE = /all necessary objects|unresolved deltas/;

interface FetchOptions {
  url: string;
  args: readonly string[];
  context: OriginContext;
}

async function fetchWith({ directory, where }: CacheRepository, { url, args, context }: FetchOptions) {
  const { signal, environment, onProgress, onReceived } = context;
  const before = await packBytes(directory);
  try {
    await runGit(
      [...OUR_CONFIGURATION, '--git-dir', directory, 'fetch', '--progress', '--no-tags', ...args],
      {
        signal,
        environment: transportEnvironment(environment),
        where,
        onSaid: fetchProgress((bytes) => onProgress({ doing: `fetching ${url}`, bytes })),
      },
    );
  } catch (error) {
    if (error instanceof LazytreeError && error.code !== 'FAILED' && !LACKS_A_BASE.test(error.message))
      othersFailures.add(error);
    throw error;
  }
  onReceived((await packBytes(directory)) - before, 1);
}

/** A ref is made when all that it leads to is there. */
async function hasCommit(directory: string, commit: string, options: GitOptions): Promise<boolean> {
  const args = ['--git-dir', directory, 'for-each-ref', '--format=%(objectname)', `refs/lazytree/${commit}`];
  return (await runGit(args, options)).length > 0;
}

async function hasObject(directory: string, commit: string, options: GitOptions): Promise<boolean> {
  const answer = await runGit(['--git-dir', directory, 'cat-file', '--batch-check'], {
    ...options,
    input: `${commit}\n`,
  });
  return !answer.toString('latin1').trim().endsWith('missing');
}

async function isShallow(directory: string): Promise<boolean> {
  return (await hasBegun(directory)) && (await readdir(directory)).includes('shallow');
}

async function packs(directory: string): Promise<string[]> {
  try {
    return await readdir(join(directory, 'objects', 'pack'));
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

async function packBytes(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await packs(directory))
    if (name.endsWith('.pack')) bytes += (await stat(join(directory, 'objects', 'pack', name))).size;
  return bytes;
}

/** Removes what a git has left behind that was killed: with the lock, no other one is at work here. */
async function tidy(directory: string): Promise<void> {
  if (!(await hasBegun(directory))) return;
  const names = await packs(directory);
  if (names.filter((name) => name.endsWith('.pack')).length >= MAX_PACKS) {
    await rm(directory, { recursive: true, force: true });
    return;
  }
  for (const name of names)
    if (name.startsWith('tmp_') || name.endsWith('.lock'))
      await rm(join(directory, 'objects', 'pack', name), { force: true });
  for (const name of await readdir(directory))
    if (name.endsWith('.lock')) await rm(join(directory, name), { force: true });
}
