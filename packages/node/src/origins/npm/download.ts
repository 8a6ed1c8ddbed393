import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fromSystemError } from '@lazytree/core/errors';
import { createIntegrityCheck } from './integrity.js';
import { type RegistryAnswer, type RegistryRequest, takeAnswer } from './registry-request.js';

/** A tarball that is whole, and what it has to be. */
export interface Tarball {
  /** All of it, or a stream of it where it is large. */
  content: Buffer | AsyncIterable<Uint8Array>;
  integrity: string;
  /** Removes what was put aside for it. */
  release(): Promise<void>;
}

/** A larger one waits in a file while it comes. */
const IN_MEMORY = 4 << 20;

/**
 * Downloads a tarball, and goes on where it was cut.
 *
 * @throws LazytreeError NOT_FOUND, REFUSED, NETWORK, CORRUPT
 */
export async function downloadTarball(
  request: RegistryRequest,
  integrity: string | undefined,
): Promise<Tarball> {
  const { context, what } = request;
  const received = createSpool(() => context.cacheDirectory());
  const check = createIntegrityCheck(integrity);
  let etag: string | undefined;

  async function take(answer: RegistryAnswer, progressed: () => void): Promise<void> {
    const from = startOf(answer);
    if (from !== received.length()) {
      check.reset();
      await received.empty();
    }
    const tag = answer.header('etag');
    etag = tag && !tag.startsWith('W/') ? tag : undefined;
    const length = Number(answer.header('content-length'));
    const totalBytes = length > 0 ? received.length() + length : undefined;
    const before = received.length();
    try {
      for await (const piece of answer.body) {
        check.update(piece);
        await received.write(piece);
        progressed();
        context.onProgress({ doing: `downloading ${what}`, bytes: received.length(), totalBytes });
      }
    } finally {
      context.onReceived(received.length() - before, 1);
    }
    if (totalBytes !== undefined && received.length() < totalBytes && !answer.header('content-encoding')) {
      throw Object.assign(new Error('the answer is shorter than it said'), { code: 'ECONNRESET' });
    }
  }

  try {
    await takeAnswer(request, {
      headers: () => ({
        accept: '*/*',
        'accept-encoding': 'identity',
        ...(received.length() > 0 && etag !== undefined
          ? { range: `bytes=${received.length()}-`, 'if-range': etag }
          : {}),
      }),
      take,
    });
    const found = check.finish(what);
    return { content: received.content(), integrity: found, release: received.remove };
  } catch (error) {
    await received.remove();
    throw error;
  }
}

/** Where in the tarball an answer begins. */
function startOf({ status, header }: RegistryAnswer): number {
  if (status !== 206) return 0;
  return Number(/^bytes (\d+)-/.exec(header('content-range') ?? '')?.[1] ?? Number.NaN);
}

function createSpool(directory: () => Promise<string>) {
  let pieces: Uint8Array[] = [];
  let length = 0;
  let file: { handle: FileHandle; path: string } | undefined;

  async function toFile(): Promise<void> {
    const path = join(await directory(), `download-${randomUUID()}`);
    file = { handle: await open(path, 'wx', 0o600), path };
    for (const piece of pieces) await file.handle.write(piece);
    pieces = [];
  }

  async function close(): Promise<void> {
    if (!file) return;
    const { handle, path } = file;
    file = undefined;
    await handle.close();
    await rm(path, { force: true });
  }

  return {
    length: () => length,
    async write(piece: Uint8Array): Promise<void> {
      length += piece.length;
      if (!file && length <= IN_MEMORY) {
        pieces.push(piece);
        return;
      }
      try {
        if (!file) await toFile();
        await file?.handle.write(piece);
      } catch (error) {
        throw fromSystemError(error, 'a download');
      }
    },
    async empty(): Promise<void> {
      await close();
      pieces = [];
      length = 0;
    },
    content(): Buffer | AsyncIterable<Uint8Array> {
      if (!file) return Buffer.concat(pieces);
      return createReadStream(file.path, { highWaterMark: 1 << 20 });
    },
    remove: close,
  };
}
