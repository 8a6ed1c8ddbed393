import { LazytreeError } from '@lazytree/core';
import type { OriginContent, OriginContext, OriginDriver, OriginPin } from '../driver.js';
import { withCommit } from './cache-repository.js';
import { transportEnvironment } from './git-environment.js';
import {
  formatGitReference,
  gitReadings,
  isCommitId,
  isLocalUrl,
  parseGitReference,
} from './git-reference.js';
import { findRemoteCommit } from './remote-refs.js';
import { writeCommit } from './write-commit.js';

/** Repositories, by the git of this machine. */
export const driver: OriginDriver = {
  name: 'git',
  summary:
    'git:URL[#REF]: a commit of any repository that git can fetch; REF is a branch, a tag or a commit id',
  parse: (text, { directory }) => formatGitReference(parseGitReference(text, directory)),
  readings: gitReadings,
  needsNoNetwork: isLocalUrl,
  pin: pinGit,
  fetch: fetchGit,
};

async function fetchGit({ reference, integrity }: OriginPin, context: OriginContext): Promise<OriginContent> {
  const { url, ref } = parseGitReference(reference, '/');
  if (!isCommitId(ref) || (integrity !== undefined && integrity !== `git:${ref}`))
    throw new LazytreeError('CORRUPT', `git:${reference} is not what its integrity, ${integrity}, says`);
  const request = { url, commit: ref, context };
  return withCommit(request, async (repository) => {
    const writer = context.newTree();
    try {
      const notes = await writeCommit(writer, repository, request);
      return { entry: await writer.finish(), integrity: `git:${ref}`, notes };
    } catch (error) {
      writer.abort();
      throw error;
    }
  });
}

async function pinGit(
  text: string,
  { signal, environment, onProgress, onReceived }: OriginContext,
): Promise<OriginPin> {
  const { url, ref } = parseGitReference(text, '/');
  let commit = ref;
  if (!isCommitId(ref)) {
    onProgress({ doing: `asking ${url} for ${ref}`, bytes: 0 });
    commit = await findRemoteCommit(
      { url, ref },
      { signal, environment: transportEnvironment(environment), where: url },
    );
    onReceived(0, 1);
  }
  return { reference: formatGitReference({ url, ref: commit }), integrity: `git:${commit}` };
}
