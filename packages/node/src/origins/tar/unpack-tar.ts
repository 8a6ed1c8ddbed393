import type { Readable } from 'node:stream';
import { isFile, LazytreeError, nameFromBytes, type TreeWriter } from '@lazytree/core';
import { extract, type Header } from 'tar-stream';

export interface UnpackOptions {
  signal: AbortSignal;
  /** Directories that are taken off the front of each name; what has no more than these is left out. */
  strip: number;
}

/** Names that are not UTF-8 are to survive: a byte becomes a character. Archives older than POSIX are archives, too. */
const OPTIONS = { filenameEncoding: 'latin1', allowUnknownFormat: true } as Parameters<typeof extract>[0];

/** Content that is refused when it is so many times what was received, once there is enough of it to matter. */
const BOMB_RATIO = 250;
const BOMB_BYTES = 512 << 20;
/** Notes of one kind that are told one by one. */
const TOLD = 3;

/** How much came in, so that what comes out can be judged. */
export interface Received {
  bytes: number;
}

/**
 * Unpacks a tar into a tree, as `tar -x` would do it in an empty directory, with less trust: names that lead out of it
 * end it all, links are never followed, and devices, pipes and sockets are left out. Of modes, only whether the owner
 * may execute is kept.
 *
 * @returns what a person should know
 * @throws LazytreeError CORRUPT, UNSUPPORTED, and what the archive throws
 */
export async function unpackTar(
  archive: AsyncIterable<Uint8Array>,
  received: Received,
  tree: TreeWriter,
  { signal, strip }: UnpackOptions,
): Promise<string[]> {
  const left = createNotes();
  const entries = extract(OPTIONS);
  const feeding = feed();
  try {
    for await (const entry of entries) {
      signal.throwIfAborted();
      await take(entry.header, entry as unknown as AsyncIterable<Uint8Array>);
      (entry as unknown as Readable).resume();
    }
    await feeding;
    return left.list();
  } catch (error) {
    signal.throwIfAborted();
    const failed = await Promise.race([feeding.catch((cause: unknown) => cause), undefined]);
    throw explained(failed ?? error);
  } finally {
    entries.destroy(null);
    await feeding.catch(() => undefined);
  }

  /** Resolves when all of it is in; what fails on the way ends the entries as well. */
  async function feed(): Promise<void> {
    let unpacked = 0;
    try {
      for await (const piece of archive) {
        unpacked += piece.length;
        if (unpacked > BOMB_BYTES && unpacked > received.bytes * BOMB_RATIO)
          throw bomb(unpacked, received.bytes);
        if (entries.destroyed) return;
        if (!entries.write(piece)) await drained();
      }
      entries.end(undefined);
    } catch (error) {
      entries.destroy(error as Error);
      throw error;
    }
  }

  function drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = () => {
      entries.off('drain', done);
      entries.off('close', done);
      resolve();
    };
    entries.on('drain', done);
    entries.on('close', done);
    return promise;
  }

  async function take(header: Header, content: AsyncIterable<Uint8Array>): Promise<void> {
    const path = placeOf(nameOf(header, 'path', header.name), strip);
    if (path === undefined) return;
    if (path.includes('\ufffd')) left.add('has a name that was not UTF-8, and is not what it was', path);
    const { type, mode = 0o644 } = header;
    switch (type) {
      case 'file':
      case 'contiguous-file':
        await tree.file(path, content, { executable: (mode & 0o100) !== 0 });
        return;
      case 'directory':
        tree.directory(path);
        return;
      case 'symlink': {
        const target = nameOf(header, 'linkpath', header.linkname ?? '');
        if (leadsOut(path, target))
          left.add('is a symlink that leads out of the archive', `${path} -> ${target}`);
        tree.symlink(path, target);
        return;
      }
      case 'link':
        link(path, nameOf(header, 'linkpath', header.linkname ?? ''));
        return;
      case 'character-device':
      case 'block-device':
      case 'fifo':
        left.add(`is a ${type.replace('-', ' ')}, left out`, path);
        return;
      default:
        throw new LazytreeError(
          'UNSUPPORTED',
          `'${path}' is of a kind (${type ?? 'unknown'}) that is not known`,
        );
    }
  }

  function link(path: string, target: string): void {
    const place = placeOf(target, strip);
    const entry = place === undefined ? undefined : tree.get(place);
    if (!entry || (!isFile(entry) && entry.kind !== 'symlink')) {
      throw new LazytreeError('CORRUPT', `'${path}' is a link to '${target}', which is no file before it`);
    }
    tree.put(path, entry);
  }
}

function nameOf({ pax }: Header, field: 'path' | 'linkpath', name: string): string {
  // Extended headers are UTF-8 by definition, and have been decoded as that.
  return (pax as Record<string, string> | null | undefined)?.[field] === undefined
    ? nameFromBytes(Buffer.from(name, 'latin1'))
    : name;
}

/**
 * The path of a name in the tree, or undefined when nothing is left of it: `.`, or what `strip` takes off.
 *
 * @throws LazytreeError CORRUPT for a name that leads elsewhere
 */
function placeOf(name: string, strip: number): string | undefined {
  if (name.startsWith('/')) throw outside(name);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw outside(name);
  const path = parts.slice(strip).join('/');
  return path === '' ? undefined : path;
}

function outside(name: string): LazytreeError {
  return new LazytreeError(
    'CORRUPT',
    `the archive has the name ${JSON.stringify(name.slice(0, 200))}, outside of it`,
  );
}

function leadsOut(path: string, target: string): boolean {
  if (target.startsWith('/')) return true;
  let depth = path.split('/').length - 1;
  for (const part of target.split('/')) {
    if (part === '..') depth -= 1;
    else if (part !== '' && part !== '.') depth += 1;
    if (depth < 0) return true;
  }
  return false;
}

function bomb(unpacked: number, packed: number): LazytreeError {
  return new LazytreeError(
    'CORRUPT',
    `the archive is a bomb: ${packed} bytes of it have become more than ${unpacked} bytes`,
    { hint: 'unpack it by hand if it is not, and import that' },
  );
}

function explained(error: unknown): unknown {
  if (error instanceof LazytreeError) return error;
  const { message, code } = error as Error & { code?: string };
  // Of the operating system, such as a file that cannot be read.
  if (typeof code === 'string' && /^E[A-Z]+$/.test(code)) return error;
  return new LazytreeError('CORRUPT', `the archive is damaged: ${message}`, { cause: error });
}

/** What people are told, without thousands of lines of one kind. */
function createNotes() {
  const kinds = new Map<string, { paths: string[]; more: number }>();
  return {
    add(what: string, path: string) {
      const kind = kinds.get(what) ?? { paths: [], more: 0 };
      kinds.set(what, kind);
      if (kind.paths.length < TOLD) kind.paths.push(path);
      else kind.more += 1;
    },
    list: () =>
      [...kinds].flatMap(([what, { paths, more }]) => [
        ...paths.map((path) => `${path} ${what}`),
        ...(more > 0 ? [`${more} more: ${what}`] : []),
      ]),
  };
}
