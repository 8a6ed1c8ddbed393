import { setTimeout as sleep } from 'node:timers/promises';
import { LazytreeError } from '@lazytree/core';
import { type Dispatcher, EnvHttpProxyAgent, fetch } from 'undici';
import type { OriginContext } from '../driver.js';

/** How often a server is asked before it is given up. */
const ATTEMPTS = 4;
const PAUSE_MS = 250;
/** With so much received, an attempt was worth it: a long download may break off more often than a short one. */
const PROGRESS_BYTES = 1 << 20;
const SILENT_MS = 30_000;

export type DownloadContext = Pick<OriginContext, 'signal' | 'environment' | 'onReceived'>;

export interface Download {
  /** What the server says that there is; unknown when it does not say. */
  totalBytes: number | undefined;
  body: AsyncIterable<Uint8Array>;
}

/**
 * Fetches a URL. A body that breaks off is gone on with where the server can do that, and it is the same still.
 *
 * @throws LazytreeError NOT_FOUND, REFUSED, NETWORK; also from the body
 */
export async function download(url: string, context: DownloadContext): Promise<Download> {
  const dispatcher = dispatcherFor(context);
  const first = await ask(url, context, dispatcher);
  const length = Number(first.headers.get('content-length') ?? Number.NaN);
  const encoded = first.headers.has('content-encoding');
  return {
    totalBytes: Number.isSafeInteger(length) && !encoded ? length : undefined,
    body: bodyOf(url, first, context, dispatcher),
  };
}

async function* bodyOf(
  url: string,
  first: Response,
  context: DownloadContext,
  dispatcher: Dispatcher,
): AsyncGenerator<Uint8Array> {
  const etag = first.headers.get('etag');
  const resumable = etag !== null && !etag.startsWith('W/') && !first.headers.has('content-encoding');
  let response = first;
  let received = 0;
  let counted = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      for await (const piece of response.body ?? []) {
        context.onReceived(piece.length, 0);
        received += piece.length;
        yield piece;
      }
      return;
    } catch (cause) {
      context.signal.throwIfAborted();
      if (received - counted >= PROGRESS_BYTES) attempt = 1;
      counted = received;
      if (!resumable || attempt >= ATTEMPTS) throw broken(url, cause);
      await sleep(PAUSE_MS * 2 ** (attempt - 1), undefined, { signal: context.signal });
      const headers = { range: `bytes=${received}-`, 'if-range': etag };
      response = await ask(url, context, dispatcher, headers);
      // Another content, or all of it anew: what was received is of no use.
      if (response.status !== 206) throw broken(url, cause);
    }
  }
}

async function ask(
  url: string,
  context: DownloadContext,
  dispatcher: Dispatcher,
  headers: Record<string, string> = {},
): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let failure: LazytreeError;
    try {
      context.onReceived(0, 1);
      const response = (await fetch(url, {
        headers: { accept: '*/*', ...headers },
        signal: context.signal,
        dispatcher,
      })) as unknown as Response;
      if (response.ok) return response;
      await response.body?.cancel();
      failure = refused(url, response.status);
    } catch (cause) {
      context.signal.throwIfAborted();
      failure = broken(url, cause);
    }
    if (failure.code !== 'NETWORK' || attempt >= ATTEMPTS) throw failure;
    await sleep(PAUSE_MS * 2 ** (attempt - 1), undefined, { signal: context.signal });
  }
}

/** Proxies are the caller's, who need not be this process. */
export function dispatcherFor({ environment }: DownloadContext): Dispatcher {
  const of = (name: string) => environment[name] ?? environment[name.toUpperCase()] ?? '';
  return new EnvHttpProxyAgent({
    httpProxy: of('http_proxy'),
    httpsProxy: of('https_proxy'),
    noProxy: of('no_proxy'),
    headersTimeout: SILENT_MS,
    bodyTimeout: SILENT_MS,
    connectTimeout: SILENT_MS,
  });
}

function refused(url: string, status: number): LazytreeError {
  const what = `${shown(url)} answers with status ${status}`;
  if (status === 404 || status === 410)
    return new LazytreeError('NOT_FOUND', what, { hint: 'look at the URL' });
  if (status === 401 || status === 403 || status === 407) {
    return new LazytreeError('REFUSED', what, { hint: 'it wants credentials, or does not take these' });
  }
  const code = status >= 500 || status === 408 || status === 429 ? 'NETWORK' : 'FAILED';
  return new LazytreeError(code, what, { hint: 'try again later' });
}

function broken(url: string, cause: unknown): LazytreeError {
  if (cause instanceof LazytreeError) return cause;
  const { cause: inner, message } = cause as Error;
  const why = (inner as Error | undefined)?.message || message;
  return new LazytreeError('NETWORK', `${shown(url)} cannot be fetched: ${why}`, {
    cause,
    hint: 'try again; what was resolved before can be used with --offline',
  });
}

/** What comes after the question mark may be a secret. */
export function shown(url: string): string {
  const question = url.indexOf('?');
  return question < 0 ? url : `${url.slice(0, question)}?…`;
}
