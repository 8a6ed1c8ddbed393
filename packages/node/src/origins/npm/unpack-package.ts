import { win32 } from 'node:path';
import { resolve } from 'node:path/posix';
import { promisify } from 'node:util';
import { createGunzip, gunzip, gunzipSync, type ZlibOptions } from 'node:zlib';
import { type FileEntry, LazytreeError, MAX_NAME_BYTES, nameBytes, type TreeWriter } from '@lazytree/core';
import normalizeBin from 'npm-normalize-package-bin';
import { Parser, type ReadEntry } from 'tar';
import type { Unlinked } from './npm-reference.js';

/** What is read of a package.json, none of which can be trusted to be what it should. */
export interface PackageManifest {
  name?: string;
  version?: string;
  bin?: unknown;
  scripts?: Record<string, unknown>;
}

export interface UnpackOptions {
  /** The package, for errors: `react@18.2.0`. */
  what: string;
  signal: AbortSignal;
  /** In a thread of its own: only what is not so large that it has to be unpacked as a stream. */
  atOnce?: boolean;
  /** Where a file of the package is to be in the tree, or undefined if nowhere. Default: at its own path. */
  placeOf?: (path: string) => string | undefined;
  unlinked?: Unlinked | undefined;
}

/** Larger files are streamed. */
const AT_ONCE = 4 << 20;
/** A tarball that may be larger than this unpacked is unpacked as a stream. */
const UNPACKED_AT_ONCE = 32 << 20;
/** npm does not take what unpacks to more than so many times its size; a little of it does not matter. */
const MAX_RATIO = 1000;
const NO_MATTER = 64 << 20;
/** Files on their way into the tree. */
const MANY = 64;
const MAX_DEPTH = 1024;
const MAX_MANIFEST = 8 << 20;
const HEAD = 2048;

const gunzipAtOnce = promisify(gunzip);

/**
 * Unpacks a tarball of npm into a tree as npm does: without its first directory, files alone, `.gitignore` as
 * `.npmignore`, and with what package.json names as `bin` executable and without a carriage return after its `#!` line,
 * also in packages that it bundles.
 *
 * @returns the package's own manifest, if there is one that can be read; undefined when it is too large for `atOnce`, and
 * nothing of it is in the tree
 * @throws LazytreeError CORRUPT
 */
export async function unpackPackage(
  tree: TreeWriter,
  tarball: Buffer | AsyncIterable<Uint8Array>,
  { what, signal, atOnce = false, ...options }: UnpackOptions,
): Promise<PackageManifest | undefined> {
  const files = createFiles(tree, options);
  try {
    const whole = await uncompressed(tarball, atOnce);
    if (atOnce && !Buffer.isBuffer(whole)) return undefined;
    await readTar(whole, { onFile: files.add, signal });
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof LazytreeError && cause.code !== 'CORRUPT') throw cause;
    throw new LazytreeError(
      'CORRUPT',
      `the tarball of ${what} cannot be unpacked: ${(cause as Error).message}`,
      {
        cause,
        hint: 'it is as its publisher made it; tell them, or take another version',
      },
    );
  }
  return files.finish();
}

type StoreContent = (content: Buffer | AsyncIterable<Uint8Array>) => Promise<void>;

interface SeenFile {
  executable: boolean;
  /** Settled when it is in the tree. */
  stored: Promise<unknown>;
}

function createFiles(
  tree: TreeWriter,
  { placeOf = (path) => path, unlinked }: Omit<UnpackOptions, 'what' | 'signal'>,
) {
  const ignores = new Set<string>();
  const places = new Map<string, SeenFile | 'directory'>();
  /** Of packages, by the directory that they are in, with a slash at its end unless it is empty. */
  const manifests = new Map<string, PackageManifest>();
  /** Scripts with a carriage return in the first line, as they are without. */
  const mended = new Map<string, FileEntry>();

  /** Whether there is a place for a file; like npm, what is first stays when a file and a directory have one name. */
  function isFree(path: string): boolean {
    if (places.get(path) === 'directory') return false;
    const parents: string[] = [];
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      const parent = path.slice(0, slash);
      const there = places.get(parent);
      if (there !== undefined && there !== 'directory') return false;
      parents.push(parent);
    }
    for (const parent of parents) places.set(parent, 'directory');
    return true;
  }

  async function addWhole(path: string, content: Buffer, executable: boolean): Promise<void> {
    const directory = packageDirectory(path);
    if (directory !== undefined && content.length <= MAX_MANIFEST)
      manifests.set(directory, readManifest(content));
    const place = placeOf(path);
    if (place === undefined) return;
    if (hasWindowsLine(content)) {
      const text = content.toString('utf8').replace(/^(#![^\n]+)\r\n/, '$1\n');
      mended.set(path, await tree.file(place, Buffer.from(text), { executable: true }));
    } else mended.delete(path);
    await tree.file(place, content, { executable });
  }

  async function addStream(
    path: string,
    content: AsyncIterable<Uint8Array>,
    executable: boolean,
  ): Promise<void> {
    const place = placeOf(path);
    if (place !== undefined) await tree.file(place, content, { executable });
    else for await (const _ of content);
  }

  return {
    /** Returns what to do with the content, or undefined when there is no place for the file. */
    add(entry: ReadEntry): StoreContent | undefined {
      const packed = ignoreAsNpm(entry.path, ignores);
      const path = packed === undefined ? undefined : pathOf(packed);
      if (path === undefined || !isFree(path)) return undefined;
      const before = places.get(path) as SeenFile | undefined;
      // npm writes over a file that is there, whose mode stays.
      const executable = before ? before.executable : ((entry.mode ?? 0) & 0o100) !== 0;
      const seen: SeenFile = { executable, stored: Promise.resolve() };
      places.set(path, seen);
      return (content) => {
        const store = () =>
          Buffer.isBuffer(content)
            ? addWhole(path, content, executable)
            : addStream(path, content, executable);
        const stored = before ? before.stored.then(store) : store();
        seen.stored = stored;
        return stored;
      };
    },
    finish(): PackageManifest {
      for (const [directory, manifest] of manifests) {
        const lost = directory === '' ? unlinked : undefined;
        const linked = binPaths(manifest, (command) => !lost?.commands.includes(command));
        const others = lost?.executable
          ? binPaths(manifest, (command) => lost.commands.includes(command))
          : [];
        for (const path of [...others, ...linked]) {
          const place = placeOf(directory + path);
          if (place === undefined) continue;
          const entry = (linked.includes(path) ? mended.get(directory + path) : undefined) ?? tree.get(place);
          if (entry?.kind === 'file' || entry?.kind === 'executable')
            tree.put(place, { ...entry, kind: 'executable' });
        }
      }
      return manifests.get('') ?? {};
    },
  };
}

/** What npm does about files that say what to leave out of a package. */
function ignoreAsNpm(path: string, seen: Set<string>): string | undefined {
  if (path.endsWith('/.npmignore') || path === '.npmignore') seen.add(path);
  if (!path.endsWith('/.gitignore') && path !== '.gitignore') return path;
  const npmIgnore = path.replace(/\.gitignore$/, '.npmignore');
  return seen.has(npmIgnore) ? undefined : npmIgnore;
}

/** Paths that stay as they are, as nearly all do: of letters that mean nothing, and of no more than one dot in a row. */
const PLAIN = /^[\w@+-][\w@+.-]*(?:\/(?:[\w@+-]|\.(?![./]|$))(?:[\w@+-]|\.(?!\.))*)+$/;

/** The path that npm gives to what has this one in a tarball, or undefined when it leaves it out. */
function pathOf(packed: string): string | undefined {
  if (packed.length <= MAX_NAME_BYTES && PLAIN.test(packed)) return packed.slice(packed.indexOf('/') + 1);
  const parts = packed.split('/').slice(1);
  if (parts.length > MAX_DEPTH) return undefined;
  const path = relativePath(parts.join('/'));
  if (path.replaceAll('\\', '/').split('/').includes('..') || path.includes('\0')) return undefined;
  const place = resolve('/', path).slice(1);
  if (place === '' || place.split('/').some((name) => nameBytes(name) > MAX_NAME_BYTES)) return undefined;
  return place;
}

/** Also what is absolute on Windows alone. */
function relativePath(path: string): string {
  for (
    let { root } = win32.parse(path);
    root !== '' || win32.isAbsolute(path);
    { root } = win32.parse(path)
  ) {
    path = path.slice(path.startsWith('/') && !path.startsWith('//?/') ? 1 : root.length);
  }
  return path;
}

/** Of a package.json: the directory of its package, with a slash at the end; undefined for any other file. */
function packageDirectory(path: string): string | undefined {
  if (!path.endsWith('package.json')) return undefined;
  return /^((?:node_modules\/(?:@[^/]+\/)?[^/@][^/]*\/)*)package\.json$/.exec(path)?.[1];
}

export function readManifest(content: Buffer): PackageManifest {
  try {
    const manifest: unknown = JSON.parse(content.toString('utf8').replace(/^\uFEFF/, ''));
    return typeof manifest === 'object' && manifest !== null ? manifest : {};
  } catch {
    // npm unpacks it all the same, and makes nothing executable.
    return {};
  }
}

/** The files of a package's commands, of those that count. */
export function binPaths(
  { name, bin }: PackageManifest,
  counts: (command: string) => boolean = () => true,
): string[] {
  const { bin: found = {} } = normalizeBin({ name: typeof name === 'string' ? name : undefined, bin });
  return Object.entries(found)
    .filter(([command]) => counts(command))
    .map(([, path]) => resolve('/', path).slice(1))
    .filter((path) => path !== '');
}

function hasWindowsLine(content: Buffer): boolean {
  if (content[0] !== 0x23 || content[1] !== 0x21) return false;
  return /^#![^\n]+\r\n/.test(content.toString('utf8', 0, HEAD));
}

/** @param alone nobody else waits for this thread */
async function uncompressed(
  tarball: Buffer | AsyncIterable<Uint8Array>,
  alone: boolean,
): Promise<Buffer | AsyncIterable<Uint8Array>> {
  if (!Buffer.isBuffer(tarball)) return inflate(tarball);
  return (await unzipAtOnce(tarball, alone ? gunzipSync : gunzipAtOnce)) ?? inflate([tarball]);
}

/** Undefined for what is too large for that. */
async function unzipAtOnce(
  tarball: Buffer,
  unzip: (bytes: Buffer, options: ZlibOptions) => Buffer | Promise<Buffer>,
): Promise<Buffer | undefined> {
  if (!isGzip(tarball)) return tarball;
  // What gzip says of the size is true for any that is as it should be.
  const size = tarball.length < 18 ? Number.NaN : tarball.readUInt32LE(tarball.length - 4);
  if (!(size <= UNPACKED_AT_ONCE)) return undefined;
  try {
    const chunkSize = Math.max(size + 1, 64);
    return await unzip(tarball, { chunkSize, maxOutputLength: UNPACKED_AT_ONCE });
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_BUFFER_TOO_LARGE') throw error;
    return undefined;
  }
}

async function* inflate(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const all = Symbol.asyncIterator in pieces ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]();
  const first = await all.next();
  if (first.done) return;
  let taken = 0;
  async function* whole(): AsyncIterable<Uint8Array> {
    for (let next = first; !next.done; next = await all.next()) {
      taken += next.value.length;
      yield next.value;
    }
  }
  if (!isGzip(first.value)) {
    yield* whole();
    return;
  }
  const { Readable, pipeline } = await import('node:stream');
  const unzip = createGunzip({ chunkSize: 256 << 10 });
  // Its errors are those of the last stream, which is read below.
  pipeline(Readable.from(whole()), unzip, () => undefined);
  let given = 0;
  for await (const piece of unzip) {
    given += piece.length;
    if (given > NO_MATTER && given > taken * MAX_RATIO) throw new Error('it unpacks to far more than it is');
    yield piece;
  }
}

function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

interface ReadTarOptions {
  /** Called for each file, in turn; what it returns gets the content. */
  onFile(entry: ReadEntry): StoreContent | undefined;
  signal: AbortSignal;
}

/** Small files come whole; the next entry waits for neither them nor the store, but no more is read until they are done. */
async function readTar(
  source: Buffer | AsyncIterable<Uint8Array>,
  { onFile, signal }: ReadTarOptions,
): Promise<void> {
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => undefined);
  /** Files that are whole, on their way into the tree. */
  let pending: Promise<void>[] = [];
  /** Of those that are streamed: the parser waits for them itself. */
  const streamed: Promise<void>[] = [];

  function onReadEntry(entry: ReadEntry): void {
    const store = /File$/.test(entry.type) ? onFile(entry) : undefined;
    if (!store) {
      entry.resume();
      return;
    }
    if (entry.size > AT_ONCE) {
      const stored = store(entry as unknown as AsyncIterable<Uint8Array>);
      stored.catch(failed.reject);
      streamed.push(stored);
      return;
    }
    const pieces: Buffer[] = [];
    entry.on('data', (piece: Buffer) => pieces.push(piece));
    entry.on('error', failed.reject);
    entry.on('end', () => {
      const stored = store(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces));
      stored.catch(failed.reject);
      pending.push(stored);
    });
  }

  const parser = new Parser({
    onReadEntry,
    onwarn(code: string, message: string | Error) {
      // Of what has no meaning, npm makes nothing; what cannot be read further is an error.
      if (code !== 'TAR_BAD_ARCHIVE' && code !== 'TAR_ABORT') return;
      failed.reject(message instanceof Error ? message : new Error(message));
    },
  });
  const ended = new Promise<void>((resolve) => parser.on('end', resolve));
  parser.on('error', failed.reject);
  const until = (done: Promise<unknown>) => Promise.race([failed.promise, done]);

  for await (const piece of Buffer.isBuffer(source) ? [source] : source) {
    signal.throwIfAborted();
    if (!parser.write(Buffer.from(piece.buffer, piece.byteOffset, piece.length))) {
      await until(new Promise<void>((resolve) => parser.once('drain', resolve)));
    }
    const stored = pending;
    if (stored.length < MANY) continue;
    pending = [];
    await until(Promise.all(stored));
  }
  parser.end();
  await until(ended);
  await until(Promise.all([...pending, ...streamed]));
}
