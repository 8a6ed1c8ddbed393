import { setTimeout as sleep } from 'node:timers/promises';
import { LazytreeError } from '@lazytree/core';
import type { OriginContent, OriginContext, OriginDriver, OriginPin } from '../driver.js';
import { notingPointers } from '../git/lfs-pointers.js';
import { decompress } from '../tar/decompress.js';
import { type Received, unpackTar } from '../tar/unpack-tar.js';
import { ofCommit } from './archive-commit.js';
import { openGithubApi, textOf } from './github-api.js';
import { networkFailure } from './github-failure.js';
import {
  formatGithubReference,
  type GithubReference,
  githubReadings,
  isCommit,
  parseGithubReference,
} from './github-reference.js';

const ATTEMPTS = 3;
const PAUSE_MS = 300;
/** Bytes of an answer that is a commit's id. */
const ID_ANSWER = 1024;

/** Repositories of GitHub, without git: what a name stands for in one request, and a commit in one more. */
export const driver: OriginDriver = {
  name: 'github',
  summary:
    'github:OWNER/REPOSITORY[@REF], a commit as GitHub archives it; REF is a branch, a tag or a commit',
  parse: (text) => formatGithubReference(parseGithubReference(text)),
  readings: githubReadings,
  pin: pinGithub,
  async fetch(pin, context) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await fetchOnce(pin, context);
      } catch (error) {
        context.signal.throwIfAborted();
        if (!(error instanceof BrokenOff)) throw error;
        if (attempt >= ATTEMPTS) throw error.reason;
        await sleep(PAUSE_MS * attempt, undefined, { signal: context.signal });
      }
    }
  },
};

/** An archive that is made while it is sent cannot be gone on with. */
class BrokenOff extends Error {
  readonly reason: LazytreeError;
  constructor(reason: LazytreeError) {
    super(reason.message);
    this.reason = reason;
  }
}

async function pinGithub(text: string, context: OriginContext): Promise<OriginPin> {
  const reference = parseGithubReference(text);
  const commit = isCommit(reference.ref) ? reference.ref : await askForCommit(reference, context);
  return { reference: formatGithubReference({ ...reference, ref: commit }), integrity: `git:${commit}` };
}

async function askForCommit(
  { owner, repository, ref }: GithubReference,
  context: OriginContext,
): Promise<string> {
  const api = openGithubApi(context);
  const what = `commit '${ref}' of ${owner}/${repository}`;
  context.onProgress({ doing: `asking GitHub for ${what}`, bytes: 0 });
  const name = ref.split('/').map(encodeURIComponent).join('/');
  const response = await api.get(`/repos/${owner}/${repository}/commits/${name}`, {
    accept: 'application/vnd.github.sha',
    what,
  });
  const commit = (await textOf(response, ID_ANSWER)).trim();
  context.onReceived(commit.length, 0);
  if (!isCommit(commit))
    throw new LazytreeError('NETWORK', `${api.url} does not answer as GitHub does`, {
      hint: 'look at GITHUB_API_URL, and at what stands between you and GitHub',
    });
  return commit.toLowerCase();
}

async function fetchOnce(
  { reference, integrity }: OriginPin,
  context: OriginContext,
): Promise<OriginContent> {
  const { signal, onProgress, onReceived } = context;
  const { owner, repository, ref: commit } = parseGithubReference(reference);
  if (!isCommit(commit) || (integrity !== undefined && integrity !== `git:${commit}`))
    throw new LazytreeError('CORRUPT', `github:${reference} is not what its integrity, ${integrity}, says`);
  const api = openGithubApi(context);
  const where = `github:${owner}/${repository}`;
  const response = await api.get(`/repos/${owner}/${repository}/tarball/${commit}`, {
    accept: 'application/vnd.github+json',
    what: `commit ${commit} of ${owner}/${repository}`,
  });
  const received: Received = { bytes: 0 };
  const packed = counted();
  const tree = context.newTree();
  const { writer, notes: pointers } = notingPointers(tree);
  try {
    const tar = ofCommit(await decompress(packed), { commit, where: `what came for ${where}` });
    const notes = await unpackTar(tar, received, writer, { signal, strip: 1 });
    // What follows the end of an archive is a part of it.
    for await (const _ of packed);
    return { entry: await tree.finish(), integrity: `git:${commit}`, notes: [...notes, ...pointers()] };
  } catch (error) {
    tree.abort();
    throw error;
  } finally {
    await packed.return(undefined);
  }

  async function* counted(): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of response.body ?? []) {
        received.bytes += piece.length;
        onReceived(piece.length, 0);
        onProgress({ doing: `fetching ${where}`, bytes: received.bytes });
        yield piece;
      }
    } catch (error) {
      signal.throwIfAborted();
      throw new BrokenOff(networkFailure(where, error));
    }
  }
}
