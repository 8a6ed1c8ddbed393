import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { fromSystemError } from '@lazytree/core/errors';
import type { OriginContext } from '../driver.js';
import { createIntegrityCheck } from './integrity.js';
import { type RegistryAnswer, type RegistryRequest, takeAnswer } from './registry-request.js';
import { createSpool } from './spool.js';

/** A tarball, or another file, that is whole, and what it has to be. */
export interface Tarball {
  /** All of it, or a stream of it where it is large. */
  content: Buffer | AsyncIterable<Uint8Array>;
  integrity: string;
  /** Removes what was put aside for it. */
  release(): Promise<void>;
}

/** The same, where the content of a large one is the path of the file that it is in. */
interface WholeTarball {
  content: Buffer | string;
  integrity: string;
}

/** @throws LazytreeError NOT_FOUND, REFUSED, NETWORK, CORRUPT */
export async function downloadTarball(
  request: RegistryRequest,
  integrity: string | undefined,
): Promise<Tarball> {
  return asTarball(await download(request, integrity));
}

/** @param whole whose file, if there is one, is removed in the end */
export function asTarball({ content, integrity }: WholeTarball): Tarball {
  if (typeof content !== 'string') return { content, integrity, async release() {} };
  return {
    content: createReadStream(content, { highWaterMark: 1 << 20 }),
    integrity,
    release: () => rm(content, { force: true }),
  };
}

/**
 * Downloads a tarball, and goes on where it was cut.
 *
 * @throws LazytreeError NOT_FOUND, REFUSED, NETWORK, CORRUPT
 */
export async function download(
  request: RegistryRequest,
  integrity: string | undefined,
): Promise<WholeTarball> {
  const { context, what } = request;
  const received = createSpool(() => context.cacheDirectory());
  const check = createIntegrityCheck(integrity);
  let etag: string | undefined;
  let furthest = 0;

  async function take(answer: RegistryAnswer, progressed: () => void): Promise<void> {
    const isRest = answer.status === 206;
    if (!isRest || startOf(answer) !== received.length()) {
      etag = undefined;
      check.reset();
      await received.empty();
      if (isRest) throw Object.assign(new Error('another part than was asked for'), { code: 'ECONNRESET' });
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
        if (received.length() > furthest) progressed();
        furthest = Math.max(furthest, received.length());
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
    return { content: await received.finish(), integrity: found };
  } catch (error) {
    await received.remove();
    throw error;
  }
}

/**
 * Takes a tarball of this machine: a copy, so that what is unpacked is what was checked.
 *
 * @throws LazytreeError NOT_FOUND, REFUSED, CORRUPT
 */
export async function copyTarball(
  path: string,
  { integrity, context }: { integrity: string | undefined; context: OriginContext },
): Promise<Tarball> {
  const copy = createSpool(() => context.cacheDirectory());
  const check = createIntegrityCheck(integrity);
  try {
    for await (const piece of createReadStream(path)) {
      context.signal.throwIfAborted();
      check.update(piece);
      await copy.write(piece);
    }
    const found = check.finish(path);
    return asTarball({ integrity: found, content: await copy.finish() });
  } catch (error) {
    await copy.remove();
    throw fromSystemError(error, `reading the tarball ${path}`);
  }
}

/** Where in the tarball a part of it begins. */
function startOf({ header }: RegistryAnswer): number {
  return Number(/^bytes (\d+)-/.exec(header('content-range') ?? '')?.[1] ?? Number.NaN);
}
