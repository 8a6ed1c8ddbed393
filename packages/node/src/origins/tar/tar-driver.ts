import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fromSystemError, LazytreeError, toFsPath } from '@lazytree/core';
import type { OriginContent, OriginContext, OriginDriver, OriginPin } from '../driver.js';
import { atEachSlash, atExisting, isFileAt } from '../readings.js';
import { decompress } from './decompress.js';
import { download, shown } from './download.js';
import { type Received, unpackTar } from './unpack-tar.js';

const INTEGRITY = /^sha512-[A-Za-z0-9+/]{86}==$/;
const STRIP = /^strip=(\d{1,2})$/;
/** A fragment, and a path behind it. */
const MARKED = /^([^#]*#(?:(?:sha512-[A-Za-z0-9+/]{86}==|strip=\d{1,2})&?)+)\/(.+)$/s;
/** The name of an archive in a URL before something else. */
const ARCHIVE = /\.(?:tar|tgz|txz|tar\.[a-z0-9]+)(?=\/)/;
const ATTEMPTS = 3;
const PAUSE_MS = 300;

/** An archive, and how it is to be taken. */
interface Archive {
  /** A URL, or an absolute path. */
  place: string;
  strip: number;
  integrity: string | undefined;
}

/** A tar, compressed or not, at a URL or in a file: what is in it, as it is in it. */
export const driver: OriginDriver = {
  name: 'tar',
  summary:
    'tar:URL or tar:FILE, an archive (gz, zst, xz); with #sha512-… it is checked, with #strip=1 its top goes',
  parse(text, { directory }) {
    const { place, strip, integrity } = split(text);
    return format({ place: canonical(place, directory), strip, integrity });
  },
  readings(text, { directory }) {
    const [, marked, path] = MARKED.exec(text) ?? [];
    if (marked !== undefined) return [{ reference: marked, path }];
    if (!isUrl(text)) return atExisting(text, (file) => isFileAt(resolve(directory, file)));
    const end = ARCHIVE.exec(text)?.index;
    return end === undefined ? [{ reference: text, path: '' }] : atEachSlash(text, end);
  },
  needsNoNetwork: (reference) => !isUrl(reference),
  async pin(reference) {
    const { integrity, ...archive } = split(reference);
    const plain = format({ ...archive, integrity: undefined });
    return integrity === undefined ? { reference: plain } : { reference: plain, integrity };
  },
  async fetch(pin, context) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await fetchOnce(pin, context);
      } catch (error) {
        context.signal.throwIfAborted();
        if ((error as LazytreeError).code !== 'NETWORK' || attempt >= ATTEMPTS) throw error;
        // Broken off where it could not be gone on with.
        await sleep(PAUSE_MS * attempt, undefined, { signal: context.signal });
      }
    }
  },
};

function split(text: string): Archive {
  const hash = text.indexOf('#');
  const archive: Archive = { place: hash < 0 ? text : text.slice(0, hash), strip: 0, integrity: undefined };
  if (archive.place === '') throw usage(text, 'without a URL or a path');
  for (const part of hash < 0 ? [] : text.slice(hash + 1).split('&')) {
    const strip = STRIP.exec(part)?.[1];
    if (strip !== undefined) archive.strip = Number(strip);
    else if (INTEGRITY.test(part)) archive.integrity = part;
    else throw usage(text, `with '#${part}', which is neither sha512-… nor strip=N`);
  }
  return archive;
}

function format({ place, strip, integrity }: Archive): string {
  const parts = [...(integrity === undefined ? [] : [integrity]), ...(strip === 0 ? [] : [`strip=${strip}`])];
  return parts.length === 0 ? place : `${place}#${parts.join('&')}`;
}

function canonical(place: string, directory: string): string {
  if (!/^[A-Za-z][A-Za-z0-9+.-]*:/.test(place)) return resolve(directory, place);
  let url: URL;
  try {
    url = new URL(place);
  } catch (cause) {
    throw new LazytreeError('USAGE', 'tar: with something that is no URL and no path', { cause });
  }
  if (url.protocol === 'file:') return fileURLToPath(url);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw usage(place, `with '${url.protocol}'`);
  if (url.username || url.password) {
    throw new LazytreeError('USAGE', `'tar:${url.protocol}//…@${url.host}' has a secret in it`, {
      hint: 'references are written down: fetch it by other means, and use the path of the file',
    });
  }
  return url.href;
}

function isUrl(place: string): boolean {
  return /^https?:/i.test(place);
}

function usage(text: string, why: string): LazytreeError {
  return new LazytreeError('USAGE', `'tar:${shown(text)}' is a reference ${why}`, {
    hint: 'write tar:URL or tar:FILE, with #sha512-… or #strip=N behind it',
  });
}

async function fetchOnce(
  { reference, integrity: wanted }: OriginPin,
  context: OriginContext,
): Promise<OriginContent> {
  const { place, strip } = split(reference);
  const { body, totalBytes } = isUrl(place) ? await download(place, context) : await open(place);
  const hash = createHash('sha512');
  const received: Received = { bytes: 0 };
  const packed = counted();
  const tree = context.newTree();
  try {
    const notes = await unpackTar(await decompress(packed), received, tree, {
      signal: context.signal,
      strip,
    });
    // What follows the end of an archive is a part of the file.
    for await (const _ of packed);
    const integrity = `sha512-${hash.digest('base64')}`;
    if (wanted !== undefined && wanted !== integrity) {
      throw new LazytreeError(
        'CORRUPT',
        `tar:${shown(place)} is not what it should be: ${integrity}, not ${wanted}`,
        {
          hint: 'nothing of it was stored; it was changed there, or on its way',
        },
      );
    }
    return { entry: await tree.finish(), integrity, notes };
  } catch (error) {
    tree.abort();
    throw error;
  } finally {
    await packed.return(undefined);
  }

  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const piece of body) {
      hash.update(piece);
      received.bytes += piece.length;
      context.onProgress({
        doing: `fetching ${shown(place)}`,
        bytes: received.bytes,
        ...(totalBytes && { totalBytes }),
      });
      yield piece;
    }
    if (totalBytes !== undefined && received.bytes < totalBytes) {
      throw new LazytreeError(
        'NETWORK',
        `${shown(place)} broke off after ${received.bytes} of ${totalBytes} bytes`,
      );
    }
  }
}

async function open(file: string): Promise<{ body: AsyncIterable<Uint8Array>; totalBytes: number }> {
  try {
    const found = await stat(toFsPath(file));
    if (!found.isFile())
      throw new LazytreeError('USAGE', `'${file}' is not a file`, { hint: 'dir:PATH takes one' });
    return { body: reading(file), totalBytes: found.size };
  } catch (error) {
    throw fromSystemError(error, `opening the archive '${file}'`);
  }
}

async function* reading(file: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(toFsPath(file), { highWaterMark: 1 << 18 });
  } catch (error) {
    throw fromSystemError(error, `reading the archive '${file}'`);
  }
}
