import { LazytreeError } from '@lazytree/core';
import type { OriginReading } from '../driver.js';
import { refProblem } from '../git/git-reference.js';
import { atEachSlash } from '../readings.js';

export interface GithubReference {
  owner: string;
  repository: string;
  /** A branch, a tag, or a commit; `HEAD` when nothing was said. */
  ref: string;
}

const FORM = /^([A-Za-z0-9][A-Za-z0-9_-]{0,99})\/([A-Za-z0-9._-]{1,100}?)(?:\.git)?\/?(?:[@#](.*))?$/s;
const COMMIT = /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/i;

export function formatGithubReference({ owner, repository, ref }: GithubReference): string {
  return ref === 'HEAD' ? `${owner}/${repository}` : `${owner}/${repository}@${ref}`;
}

/**
 * Reads `owner/repository`, with `@ref` or `#ref` behind it. Names are as GitHub compares them, in lower case.
 *
 * @throws LazytreeError USAGE
 */
export function parseGithubReference(text: string): GithubReference {
  const [, owner, repository, written] = FORM.exec(text) ?? [];
  if (owner === undefined || repository === '.' || repository === '..')
    throw usage(text, 'it is not of the form owner/repository@ref');
  const ref = written ? (COMMIT.test(written) ? written.toLowerCase() : written) : 'HEAD';
  const problem = refProblem(ref);
  if (problem) throw usage(text, `'${ref.slice(0, 100)}' is no name of a branch, tag or commit: ${problem}`);
  return { owner: owner.toLowerCase(), repository: repository.toLowerCase(), ref };
}

/** A path behind the repository, or behind a ref, which may have slashes. */
export function githubReadings(text: string): OriginReading[] {
  const [, reference, path] = /^([^/@#]+\/[^/@#]+)\/(.+)$/s.exec(text) ?? [];
  if (reference !== undefined) return [{ reference, path }];
  const mark = text.search(/[@#]/);
  return mark < 0 ? [{ reference: text, path: '' }] : atEachSlash(text, mark);
}

export function isCommit(ref: string): boolean {
  return COMMIT.test(ref);
}

function usage(text: string, problem: string): LazytreeError {
  return new LazytreeError(
    'USAGE',
    `${JSON.stringify(text.slice(0, 200))} is no repository of GitHub: ${problem}`,
    {
      hint: 'write github:owner/repository@ref, as in github:octocat/hello-world@main',
    },
  );
}
