import { LazytreeError, MAX_TREE_DEPTH } from '@lazytree/core';
import type { CacheRepository } from './cache-repository.js';
import { type GitObject, type ReadObjectsOptions, readObjects } from './read-objects.js';
import { parseTreeObject } from './tree-object.js';

export interface ListedFile {
  /** With the engine's names. */
  path: string;
  kind: 'file' | 'executable' | 'symlink';
  id: string;
}

/** All that is in a commit's tree. Directories are there because of what they hold: git does not keep empty ones. */
export interface CommitListing {
  files: ListedFile[];
  submodules: { path: string; id: string }[];
}

interface Wanted {
  id: string;
  path: string;
  depth: number;
}

const NOTHING: Wanted = { id: '', path: '', depth: 0 };

/** Entries of one commit: more than people have, and what fits into memory. */
const MAX_ENTRIES = 4_000_000;
const MAX_TAGS = 16;

/**
 * Lists a commit, or what a tag is about.
 *
 * @throws LazytreeError CORRUPT for what git would not check out, UNSUPPORTED for too much
 */
export async function listCommit(
  repository: CacheRepository,
  commit: string,
  options: Omit<ReadObjectsOptions, 'interactive'>,
): Promise<CommitListing> {
  const listing: CommitListing = { files: [], submodules: [] };
  const wanted: Wanted[] = [{ id: commit, path: '', depth: 0 }];
  let asked = 0;
  let answered = 0;
  let entries = 0;
  let hops = 0;
  const ids: Iterator<string, undefined> = {
    next: () => (asked < wanted.length ? { value: wanted[asked++].id } : { done: true, value: undefined }),
  };

  for await (const { type, id, content } of readObjects(repository, ids, { ...options, interactive: true })) {
    const bytes = await whole(content);
    const at = wanted[answered];
    // What has been read is forgotten: there may be many.
    wanted[answered++] = NOTHING;
    if (type === 'tree') addTree(at, bytes, id.length / 2);
    else if ((type === 'commit' || type === 'tag') && entries === 0 && hops <= MAX_TAGS) {
      const field = type === 'commit' ? 'tree' : 'object';
      const [, next] =
        new RegExp(`^${field} ([0-9a-f]{40}|[0-9a-f]{64})\n`).exec(bytes.toString('latin1', 0, 80)) ?? [];
      if (next === undefined)
        throw new LazytreeError('CORRUPT', `${id} of ${repository.where} is not a ${type}`);
      hops++;
      wanted.push({ id: next, path: '', depth: 0 });
    } else
      throw new LazytreeError(
        'CORRUPT',
        `${commit} of ${repository.where} leads to a ${type}, not to a commit`,
      );
  }
  return listing;

  function addTree({ path: prefix, depth }: Wanted, content: Buffer, idBytes: number): void {
    if (depth > MAX_TREE_DEPTH)
      throw new LazytreeError('CORRUPT', `${repository.where} has directories too deep`);
    const inside = parseTreeObject(content, idBytes);
    entries += inside.length;
    if (entries > MAX_ENTRIES)
      throw new LazytreeError(
        'UNSUPPORTED',
        `${repository.where} has more than ${MAX_ENTRIES} files at ${commit}`,
      );
    for (const { name, kind, id } of inside) {
      const path = prefix + name;
      if (kind === 'directory') wanted.push({ id, path: `${path}/`, depth: depth + 1 });
      else if (kind === 'submodule') listing.submodules.push({ path, id });
      else listing.files.push({ path, kind, id });
    }
  }
}

async function whole(content: GitObject['content']): Promise<Buffer> {
  if (Buffer.isBuffer(content)) return content;
  const pieces: Buffer[] = [];
  for await (const piece of content) pieces.push(piece);
  return Buffer.concat(pieces);
}
