import { LazytreeError } from '@lazytree/core';
import { type GitOptions, runGit } from './git-process.js';
import { type GitReference, isAbbreviation } from './git-reference.js';
import { OUR_CONFIGURATION } from './our-configuration.js';

/** A name, and the object that it stands for: of an annotated tag, what the tag is about. */
export interface RemoteRef {
  name: string;
  id: string;
}

const PEELED = '^{}';
const LINE = /^([0-9a-f]{40}|[0-9a-f]{64})\t(.+)$/;

/** The refs of a repository whose names end with one of the patterns; all of them without one. */
export async function listRemoteRefs(
  url: string,
  patterns: readonly string[],
  options: GitOptions,
): Promise<RemoteRef[]> {
  const answer = await runGit(
    [...OUR_CONFIGURATION, 'ls-remote', '--quiet', '--', url, ...patterns],
    options,
  );
  const refs = new Map<string, RemoteRef>();
  for (const line of answer.toString('latin1').split('\n')) {
    const [, id, full] = LINE.exec(line) ?? [];
    if (id === undefined) continue;
    const name = full.endsWith(PEELED) ? full.slice(0, -PEELED.length) : full;
    // What a tag is about comes after the tag.
    refs.set(name, { name, id });
  }
  return [...refs.values()];
}

/**
 * The commit that a name stands for: a branch before a tag, as for `git clone --branch`.
 *
 * @throws LazytreeError NOT_FOUND, and as git
 */
export async function findRemoteCommit({ url, ref }: GitReference, options: GitOptions): Promise<string> {
  const names = namesOf(ref);
  // With an abbreviation all are wanted: the server knows those it stands for by other names.
  const patterns = isAbbreviation(ref) ? [] : names.flatMap((name) => [name, `${name}${PEELED}`]);
  const refs = await listRemoteRefs(url, patterns, options);
  for (const name of names) {
    const found = refs.find((one) => one.name === name);
    if (found) return found.id;
  }
  if (isAbbreviation(ref)) return abbreviated(ref, refs, options);
  throw new LazytreeError(
    'NOT_FOUND',
    ref === 'HEAD'
      ? `${options.where} has no commit at HEAD`
      : `there is no branch or tag '${ref}' in ${options.where}`,
    { hint: `\`git ls-remote\` lists what there is; of a commit, give the whole id` },
  );
}

function namesOf(ref: string): string[] {
  if (ref === 'HEAD' || ref.startsWith('refs/')) return [ref];
  return [`refs/heads/${ref}`, `refs/tags/${ref}`, `refs/${ref}`];
}

function abbreviated(ref: string, refs: readonly RemoteRef[], { where }: GitOptions): string {
  const ids = new Set(refs.map(({ id }) => id).filter((id) => id.startsWith(ref)));
  if (ids.size === 1) return [...ids][0];
  throw new LazytreeError(
    'NOT_FOUND',
    ids.size > 1
      ? `'${ref}' is the beginning of ${ids.size} commits of ${where}`
      : `no branch or tag of ${where} is called '${ref}', or is at a commit that begins so`,
    { hint: 'give the whole id of the commit' },
  );
}
