import { join } from 'node:path';
import {
  type FileEntry,
  LazytreeError,
  linkCodec,
  nameFromBytes,
  RAW,
  type TreeWriter,
} from '@lazytree/core';
import type { OriginContext } from '../driver.js';
import { mayChangeFiles } from './attributes.js';
import type { CacheRepository } from './cache-repository.js';
import { readingEnvironment } from './git-environment.js';
import { submoduleUrl } from './git-reference.js';
import { type KnownFile, readKnownFiles, writeKnownFiles } from './known-files.js';
import { notingPointers } from './lfs-pointers.js';
import { type CommitListing, type ListedFile, listCommit } from './list-commit.js';
import { readObjects } from './read-objects.js';
import { readSubmodules } from './submodules.js';
import { writeArchive } from './write-archive.js';
import type { WriteCommitOptions, WriteListingOptions } from './write-options.js';

/** In the repository, and gone with it: what the store has of the commit that was written last. */
const KNOWN = 'lazytree-known';
/** Bytes of content between two reports of progress. */
const REPORT_BYTES = 4 << 20;
/** Bytes that a symlink's target may take, in a repository. */
const MAX_TARGET = 4096;

/**
 * Writes what `git archive` would: the commit's files as its attributes want them. Submodules, of which an archive has
 * empty directories, become origin entries.
 *
 * @returns notes, a line each
 */
export async function writeCommit(
  writer: TreeWriter,
  repository: CacheRepository,
  options: WriteCommitOptions,
): Promise<string[]> {
  const { commit, context } = options;
  const { signal, environment } = context;
  const listing = await listCommit(repository, commit, { signal, environment });
  const notes: string[] = [];
  if (await hasAttributes(repository, listing, context)) {
    const ignored = await writeArchive(writer, repository, { ...options, listing, notes });
    listing.submodules = listing.submodules.filter(({ path }) => !ignored(path));
  } else {
    await writeFiles(writer, repository, { ...options, listing, notes });
  }
  await putSubmodules(writer, repository, { ...options, listing, notes });
  return notes;
}

async function hasAttributes(
  repository: CacheRepository,
  { files }: CommitListing,
  { signal, environment }: OriginContext,
): Promise<boolean> {
  const ids = new Set<string>();
  for (const { path, kind, id } of files)
    if (kind !== 'symlink' && (path === '.gitattributes' || path.endsWith('/.gitattributes'))) ids.add(id);
  if (ids.size === 0) return false;
  for await (const { content } of readObjects(repository, ids.values() as Iterator<string, undefined>, {
    signal,
    environment,
  })) {
    // Git does not read those that are this large.
    if (Buffer.isBuffer(content) ? mayChangeFiles(content) : await discard(content)) return true;
  }
  return false;
}

async function discard(content: AsyncIterable<Buffer>): Promise<false> {
  for await (const _ of content);
  return false;
}

/** Each content once, however many files have it. */
async function writeFiles(
  tree: TreeWriter,
  repository: CacheRepository,
  { listing, notes, context, url, commit }: WriteListingOptions,
): Promise<void> {
  const { signal, environment, onProgress } = context;
  const pointers = notingPointers(tree);
  const { writer } = pointers;
  const places = new Map<string, ListedFile[]>();
  for (const file of listing.files) {
    const others = places.get(file.id);
    if (others) others.push(file);
    else places.set(file.id, [file]);
  }
  const file = join(repository.directory, KNOWN);
  const known = await readKnownFiles(file, commit.length / 2);
  const current = new Map<string, KnownFile>();
  reuse(tree, places, { known, current });
  const reused = current.size;
  let bytes = 0;
  let reported = 0;
  const ids = places.keys() as Iterator<string, undefined>;
  const wanted = places.size > 0 ? readObjects(repository, ids, { signal, environment }) : [];
  for await (const { id, type, content, size } of wanted) {
    const files = places.get(id) as ListedFile[];
    if (type !== 'blob') throw unlike(files[0].path, repository);
    let first: FileEntry | undefined;
    for (const { path, kind } of files) {
      if (kind === 'symlink') {
        if (!Buffer.isBuffer(content) || size > MAX_TARGET) throw unlike(path, repository);
        writer.symlink(path, nameFromBytes(content));
      } else if (first && !Buffer.isBuffer(content)) writer.put(path, { ...first, kind });
      else first = await writer.file(path, content, { executable: kind === 'executable' });
    }
    if (!first && !Buffer.isBuffer(content)) throw unlike(files[0].path, repository);
    if (first && Buffer.isBuffer(content) && linkCodec(first.link) === RAW && !pointers.is(content))
      current.set(id, { link: first.link, size });
    bytes += size;
    if (bytes - reported < REPORT_BYTES) continue;
    reported = bytes;
    onProgress({ doing: `storing ${url}`, bytes });
  }
  notes.push(...pointers.notes());
  if (current.size > reused || current.size < known.size) await writeKnownFiles(file, current);
}

interface Reusing {
  known: ReadonlyMap<string, KnownFile>;
  /** Gets those that are used. */
  current: Map<string, KnownFile>;
}

/** Puts the files that are in the store from another time, and takes them off what has to be read. */
function reuse(tree: TreeWriter, places: Map<string, ListedFile[]>, { known, current }: Reusing): void {
  for (const [id, files] of places) {
    const found = known.get(id);
    if (!found || files.some(({ kind }) => kind === 'symlink')) continue;
    const isHere = files.every(({ path, kind }) =>
      tree.reuse(path, { kind: kind as FileEntry['kind'], name: '', ...found }),
    );
    if (!isHere) continue;
    current.set(id, found);
    places.delete(id);
  }
}

function unlike(path: string, { where }: CacheRepository): LazytreeError {
  return new LazytreeError(
    'CORRUPT',
    `${JSON.stringify(path.slice(0, 200))} of ${where} is not what its mode says`,
    {
      hint: '`git fsck` in the repository says more',
    },
  );
}

/**
 * What cannot be found stays an empty directory, as in a clone without submodules.
 */
async function putSubmodules(
  writer: TreeWriter,
  repository: CacheRepository,
  { url, listing, notes, context }: WriteListingOptions,
): Promise<void> {
  const { submodules, files } = listing;
  if (submodules.length === 0) return;
  const modules = files.find(({ path, kind }) => path === '.gitmodules' && kind !== 'symlink');
  const urls = modules ? await urlsIn(repository, modules.id, { context, notes }) : new Map<string, string>();
  for (const { path, id } of submodules) {
    const found = urls.get(path);
    try {
      if (found === undefined) throw new LazytreeError('NOT_FOUND', '.gitmodules has no URL for it');
      const reference = `${submoduleUrl(url, found)}#${id}`;
      writer.put(path, {
        kind: 'origin',
        name: '',
        of: 'directory',
        driver: 'git',
        reference,
        integrity: `git:${id}`,
      });
    } catch (error) {
      if (!(error instanceof LazytreeError)) throw error;
      writer.directory(path);
      notes.push(`submodule ${JSON.stringify(path)} is left empty: ${error.message}`);
    }
  }
}

async function urlsIn(
  repository: CacheRepository,
  modules: string,
  { context, notes }: Pick<WriteListingOptions, 'context' | 'notes'>,
): Promise<Map<string, string>> {
  const { signal, environment } = context;
  try {
    return await readSubmodules(repository, modules, {
      signal,
      environment: readingEnvironment(environment),
      where: `.gitmodules of ${repository.where}`,
    });
  } catch (error) {
    // What is in it is not git's to choose: a file that is no configuration names no submodules.
    if (!(error instanceof LazytreeError) || error.code !== 'FAILED') throw error;
    notes.push(error.message);
    return new Map();
  }
}
