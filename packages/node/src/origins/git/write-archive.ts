import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TreeWriter } from '@lazytree/core';
import { unpackTar } from '../tar/unpack-tar.js';
import type { CacheRepository } from './cache-repository.js';
import { readingEnvironment } from './git-environment.js';
import { runGit, startGit } from './git-process.js';
import { notingPointers } from './lfs-pointers.js';
import type { WriteListingOptions } from './write-options.js';

/**
 * Writes what `git archive` says, for commits whose attributes leave files out or change them. It sees the objects alone:
 * what other refs and commits happen to be in the repository has no say in what is written.
 *
 * @returns whether a path was left out
 */
export async function writeArchive(
  writer: TreeWriter,
  repository: CacheRepository,
  { commit, context, notes, url }: WriteListingOptions,
): Promise<(path: string) => boolean> {
  const { signal, environment, onProgress } = context;
  const { directory, where } = repository;
  const options = { signal, where, environment: readingEnvironment(environment) };
  const bare = join(directory, 'lazytree-archive');
  await mkdir(bare, { recursive: true });
  const format = commit.length === 64 ? 'sha256' : 'sha1';
  await runGit(
    ['init', '--quiet', '--bare', '--template=', `--object-format=${format}`, '--', bare],
    options,
  );
  const git = startGit(['--git-dir', bare, 'archive', '--format=tar', commit], {
    ...options,
    environment: { ...options.environment, GIT_OBJECT_DIRECTORY: join(directory, 'objects') },
  });
  git.stdin.end();
  onProgress({ doing: `storing ${url}`, bytes: 0 });
  const directories = new Set<string>();
  const { writer: noting, notes: pointers } = notingPointers(writer);
  try {
    // It was received before, by git: there is nothing to compare its size with.
    await unpackTar(git.stdout, { bytes: Number.POSITIVE_INFINITY }, noticing(noting, directories), {
      signal,
      strip: 0,
    });
  } catch (error) {
    git.stop();
    await git.ended;
    throw error;
  }
  await git.ended;
  notes.push(...pointers());
  return (path) => !directories.has(path);
}

/** A writer that writes as another one, and remembers the directories. */
function noticing(writer: TreeWriter, directories: Set<string>): TreeWriter {
  return {
    ...writer,
    directory(path) {
      directories.add(path);
      writer.directory(path);
    },
  };
}
