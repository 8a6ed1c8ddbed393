import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LazytreeError } from '@lazytree/core/errors';
import normalizeBin from 'npm-normalize-package-bin';
import packlist from 'npm-packlist';
import semver from 'semver';
import { create } from 'tar';
import type { OriginContent, OriginContext, OriginPin } from '../driver.js';
import { formatNpmReference, type NpmReference } from './npm-reference.js';
import { type PackageManifest, unpackPackage } from './unpack-package.js';

type GitReference = NpmReference & { kind: 'git' };

const run = promisify(execFile);
const COMMIT = /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/;
const MAX_OUTPUT = 64 << 20;

/**
 * Finds the commit that a git dependency stands for.
 *
 * @throws LazytreeError NOT_FOUND, NETWORK
 */
export async function pinGitPackage(reference: GitReference, context: OriginContext): Promise<OriginPin> {
  const commit = COMMIT.test(reference.committish)
    ? reference.committish
    : await findCommit(reference, context);
  return { reference: formatNpmReference({ ...reference, committish: commit }), integrity: `git:${commit}` };
}

/**
 * What npm would pack of the repository: the files that its package.json and ignore files let through. npm also runs its
 * `prepare` script, which is not done here.
 *
 * @throws LazytreeError NOT_FOUND, NETWORK, CORRUPT
 */
export async function fetchGitPackage(asked: GitReference, context: OriginContext): Promise<OriginContent> {
  const commit = COMMIT.test(asked.committish) ? asked.committish : await findCommit(asked, context);
  const what = formatNpmReference({ ...asked, committish: commit });
  const place = join(await context.cacheDirectory(), `checkout-${randomUUID()}`);
  await mkdir(place, { mode: 0o700 });
  try {
    context.onProgress({ doing: `fetching ${what}`, bytes: 0 });
    await checkOut(asked.url, { commit, place, context });
    return { ...(await pack(place, what, context)), integrity: `git:${commit}` };
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

async function findCommit({ url, committish }: GitReference, context: OriginContext): Promise<string> {
  const listed = await git(['ls-remote', '--', url], { url, context });
  const refs = new Map(
    listed
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => line.split('\t').reverse() as [string, string]),
  );
  const found = committish.startsWith('semver:')
    ? highest(refs, committish.slice('semver:'.length))
    : committish === ''
      ? refs.get('HEAD')
      : ['refs/tags/%^{}', 'refs/tags/%', 'refs/heads/%', '%']
          .map((pattern) => refs.get(pattern.replace('%', () => committish)))
          .find((commit) => commit !== undefined);
  if (found !== undefined && COMMIT.test(found)) return found;
  throw new LazytreeError('NOT_FOUND', `there is no ${committish === '' ? 'HEAD' : committish} in ${url}`, {
    hint: 'name a branch, a tag, or a whole commit id',
  });
}

function highest(refs: ReadonlyMap<string, string>, range: string): string | undefined {
  const tags = [...refs.keys()]
    .map((ref) => /^refs\/tags\/(.*?)(?:\^\{\})?$/.exec(ref)?.[1])
    .filter((tag) => tag !== undefined && semver.valid(tag, { loose: true }) !== null);
  const best = semver.maxSatisfying(tags as string[], range, { loose: true });
  return best === null ? undefined : (refs.get(`refs/tags/${best}^{}`) ?? refs.get(`refs/tags/${best}`));
}

interface CheckOut {
  commit: string;
  place: string;
  context: OriginContext;
}

async function checkOut(url: string, { commit, place, context }: CheckOut): Promise<void> {
  const here = (args: readonly string[]) => git(['-C', place, ...args], { url, context });
  await here(['init', '--quiet']);
  try {
    await here(['fetch', '--quiet', '--depth', '1', '--no-tags', '--', url, commit]);
  } catch (error) {
    context.signal.throwIfAborted();
    if (error instanceof LazytreeError && error.code !== 'NETWORK') throw error;
    // Some servers give nothing but what a branch or a tag points to.
    await here(['fetch', '--quiet', '--tags', '--', url, '+refs/heads/*:refs/heads/*']);
  }
  await here(['-c', 'advice.detachedHead=false', 'checkout', '--quiet', commit]);
}

interface GitRun {
  url: string;
  context: OriginContext;
}

async function git(args: readonly string[], { url, context }: GitRun): Promise<string> {
  const { environment, signal } = context;
  try {
    const { stdout } = await run('git', ['-c', 'protocol.ext.allow=never', ...args], {
      env: { ...environment, GIT_TERMINAL_PROMPT: '0', GIT_LFS_SKIP_SMUDGE: '1' },
      signal,
      maxBuffer: MAX_OUTPUT,
    });
    return stdout;
  } catch (cause) {
    signal.throwIfAborted();
    if ((cause as { code?: unknown }).code === 'ENOENT') {
      throw new LazytreeError('UNSUPPORTED', `git is not installed, and ${url} needs it`, {
        hint: 'install git',
      });
    }
    throw new LazytreeError('NETWORK', `git could not read ${url}`, {
      cause,
      hint: `see whether \`git ls-remote ${url}\` works here`,
    });
  }
}

async function pack(
  place: string,
  what: string,
  context: OriginContext,
): Promise<Omit<OriginContent, 'integrity'>> {
  const manifest = await readFile(join(place, 'package.json'), 'utf8').then(
    (text) => JSON.parse(text) as PackageManifest & Record<string, unknown>,
    () => undefined,
  );
  if (!manifest || typeof manifest !== 'object') {
    throw new LazytreeError('CORRUPT', `${what} has no package.json that can be read`, {
      hint: 'use git: for a repository that is not a package',
    });
  }
  const normal = normalizeBin({ ...manifest });
  const names = await packlist({ path: place, package: normal, isProjectRoot: true, edgesOut: new Map() });
  const tarball = create(
    { cwd: place, prefix: 'package/', portable: true, noMtime: true },
    [...names].sort(),
  );
  const tree = context.newTree();
  try {
    await unpackPackage(tree, tarball, { what, signal: context.signal });
    return { entry: await tree.finish(), notes: notesOf(manifest, what) };
  } catch (error) {
    tree.abort();
    throw error;
  }
}

function notesOf({ scripts }: PackageManifest, what: string): string[] {
  const there = ['prepare', 'prepack', 'preinstall', 'install', 'postinstall'].filter(
    (name) => typeof scripts?.[name] === 'string',
  );
  return there.length === 0 ? [] : [`${what} has scripts (${there.join(', ')}) that were not run`];
}
