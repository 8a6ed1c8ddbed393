import { isFile, LazytreeError, nameFromBytes, type TreeWriter } from '@lazytree/core';
import type { Extract, Header } from 'tar-stream';

export interface UnpackTarOptions {
  signal: AbortSignal;
  /** For people, of errors: what the archive was got by. */
  where: string;
  /** Names at the beginning of each path that are left out, and with them what has no more than those. Default: 0. */
  strip?: number;
  /** Bytes of content that all files together may have. Default: 1 TiB. */
  maxBytes?: number;
  /** Called with each small file, as the engine spells its path. */
  onFile?(path: string, content: Buffer): void;
  onDirectory?(path: string): void;
}

export interface UnpackedTar {
  /** Content of all files. */
  bytes: number;
  /** Files, links and directories that were written. */
  entries: number;
  /** Devices, sockets and the like, which a tree cannot hold. */
  skipped: number;
}

type Source = Extract extends AsyncIterable<infer S> ? S : never;
/** As its types have not got it. */
type ExtractOptions = Parameters<typeof import('tar-stream').extract>[0] & { filenameEncoding: 'latin1' };

const MAX_BYTES = 2 ** 40;
/** What is given to `onFile` at most. */
const SMALL_BYTES = 64 << 10;

/**
 * Writes what is in a tar, as `tar -x` would: later entries replace earlier ones, hard links are what they lead to. Owners,
 * times and modes other than the executable bit are not kept. Nothing is ever written through a link.
 *
 * @throws LazytreeError CORRUPT for what is no tar, is cut short, or has paths that lead out of it; what the stream throws
 */
export async function unpackTar(
  tar: AsyncIterable<Uint8Array>,
  writer: TreeWriter,
  options: UnpackTarOptions,
): Promise<UnpackedTar> {
  const { signal, where, strip = 0, maxBytes = MAX_BYTES, onFile, onDirectory } = options;
  const { extract } = await import('tar-stream');
  const done: UnpackedTar = { bytes: 0, entries: 0, skipped: 0 };
  // Bytes as characters: they need not be UTF-8.
  const entries = extract({ filenameEncoding: 'latin1' } as ExtractOptions);
  const input: { failed?: { error: unknown } } = {};
  const feeding = feed();

  try {
    for await (const entry of entries) {
      signal.throwIfAborted();
      await take(entry, entry.header);
    }
  } catch (error) {
    // The first failure is the reason; what follows from it is not.
    if (input.failed) throw input.failed.error;
    throw error instanceof LazytreeError || signal.aborted
      ? signal.aborted
        ? signal.reason
        : error
      : unreadable(error);
  } finally {
    entries.destroy(null);
    await feeding;
  }
  if (input.failed) throw input.failed.error;
  return done;

  async function feed(): Promise<void> {
    const gone = new Promise<void>((resolve) => entries.once('close', () => resolve()));
    try {
      for await (const piece of tar) {
        if (entries.destroyed) return;
        if (!entries.write(piece)) await Promise.race([drained(), gone]);
      }
      entries.end(null);
    } catch (error) {
      input.failed = { error };
      entries.destroy(error as Error);
    }
  }

  function drained(): Promise<void> {
    return new Promise((resolve) => entries.once('drain', () => resolve()));
  }

  async function take(entry: Source, header: Header): Promise<void> {
    const path = pathOf(header, strip);
    if (path === undefined) return discard(entry);
    done.entries++;
    switch (header.type) {
      case 'file':
      case 'contiguous-file':
        await takeFile(entry, header, path);
        return;
      case 'directory':
        writer.directory(path);
        onDirectory?.(path);
        break;
      case 'symlink':
        writer.symlink(path, linkOf(header));
        break;
      case 'link':
        takeLink(path, header);
        break;
      default:
        done.entries--;
        done.skipped++;
    }
    await discard(entry);
  }

  async function takeFile(entry: Source, { size, mode }: Header, path: string): Promise<void> {
    done.bytes += size;
    if (done.bytes > maxBytes)
      throw new LazytreeError('UNSUPPORTED', `${where} unpacks to more than ${maxBytes} bytes`);
    const executable = (mode & 0o100) !== 0;
    if (size > SMALL_BYTES) {
      await writer.file(path, entry as AsyncIterable<Uint8Array>, { executable });
      return;
    }
    const content = await whole(entry);
    onFile?.(path, content);
    await writer.file(path, content, { executable });
  }

  function takeLink(path: string, header: Header): void {
    const to = joined(linkOf(header), strip);
    const found = to === undefined ? undefined : writer.get(to);
    if (!found || !(isFile(found) || found.kind === 'symlink'))
      throw new LazytreeError(
        'CORRUPT',
        `${JSON.stringify(path)} in ${where} is a link to what is not there`,
      );
    writer.put(path, found);
  }

  function unreadable(error: unknown): LazytreeError {
    return new LazytreeError('CORRUPT', `${where} is not a whole tar archive: ${(error as Error).message}`, {
      cause: error,
      hint: 'fetch it again; if that does not help, what is there is damaged',
    });
  }

  /** Undefined for what is left out. @throws LazytreeError CORRUPT */
  function pathOf(header: Header, leave: number): string | undefined {
    return joined(text(extended(header, 'path'), header.name), leave);
  }

  function linkOf(header: Header): string {
    return text(extended(header, 'linkpath'), header.linkname ?? '');
  }

  /** A name from an extended header is text, and one from elsewhere bytes. */
  function text(written: string | undefined, bytes: string): string {
    if (!written) return nameFromBytes(Buffer.from(bytes, 'latin1'));
    if (written.includes('\ufffd'))
      throw new LazytreeError(
        'UNSUPPORTED',
        `a long name in ${where} is not UTF-8: ${JSON.stringify(written.slice(0, 200))}`,
      );
    return written;
  }
}

function extended({ pax }: Header, key: 'path' | 'linkpath'): string | undefined {
  return (pax as Partial<Record<string, string>> | null | undefined)?.[key];
}

/** `./a//b/` is `a/b`. What leads out is left for the writer to refuse. */
function joined(path: string, strip: number): string | undefined {
  const names = path.split('/').filter((name, i) => name !== '.' && (name !== '' || i === 0));
  if (names.length > 1 && names[0] === '' && strip === 0) return path;
  const rest = names.slice(strip);
  return rest.length === 0 || (rest.length === 1 && rest[0] === '') ? undefined : rest.join('/');
}

async function whole(entry: Source): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of entry as AsyncIterable<Buffer>) pieces.push(piece);
  return pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
}

async function discard(entry: Source): Promise<void> {
  for await (const _ of entry);
}
