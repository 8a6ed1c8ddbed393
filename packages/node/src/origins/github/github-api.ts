import { setTimeout as sleep } from 'node:timers/promises';
import { LazytreeError } from '@lazytree/core';
import { type Dispatcher, fetch, type Response } from 'undici';
import type { OriginContext } from '../driver.js';
import { dispatcherFor } from '../tar/download.js';
import { githubFailure, networkFailure, type RateLimit, rateLimitOf } from './github-failure.js';

const DEFAULT_API = 'https://api.github.com';
const REDIRECTS = 5;
const ATTEMPTS = 4;
const PAUSE_MS = 250;
/** What is waited for a limit to pass; whoever would have to wait longer is told so. */
const LONGEST_WAIT_MS = 20_000;
const SHORT_ANSWER = 64 << 10;

/** GitHub, as the caller's environment describes it. */
export interface GithubApi {
  /** The base of all requests, for people. */
  readonly url: string;
  readonly hasToken: boolean;
  /**
   * @param path below the base
   * @returns an answer of success; redirects have been followed
   * @throws LazytreeError NOT_FOUND, REFUSED, NETWORK (also for a rate limit)
   */
  get(path: string, options: { accept: string; what: string }): Promise<Response>;
}

type ApiContext = Pick<OriginContext, 'signal' | 'environment' | 'onReceived' | 'onProgress'>;

/** @throws LazytreeError USAGE for a GITHUB_API_URL that cannot be */
export function openGithubApi(context: ApiContext): GithubApi {
  const { signal, environment, onReceived, onProgress } = context;
  const token = (environment.GH_TOKEN || environment.GITHUB_TOKEN || undefined)?.trim();
  const base = baseUrl(environment.GITHUB_API_URL, token !== undefined);
  const dispatcher = dispatcherFor(context);

  /** One request, and those that it leads to. The token is for the base's host alone. */
  async function ask(start: URL, accept: string): Promise<Response> {
    let url = start;
    for (let hop = 0; hop <= REDIRECTS; hop++) {
      const headers: Record<string, string> = { accept };
      if (token && url.origin === base.origin) headers.authorization = `Bearer ${token}`;
      const response = await request(url, headers, { signal, dispatcher });
      onReceived(0, 1);
      const location = response.headers.get('location');
      if (response.status < 300 || response.status >= 400 || location === null) return response;
      await response.body?.cancel();
      url = nextUrl(location, url);
    }
    throw new LazytreeError('NETWORK', `${base.origin} leads from one place to another without end`, {
      hint: 'try again later',
    });
  }

  return {
    url: base.href.replace(/\/$/, ''),
    hasToken: token !== undefined,
    async get(path, { accept, what }) {
      const url = new URL(base.href.replace(/\/?$/, path));
      for (let attempt = 1; ; attempt++) {
        let failure: LazytreeError;
        let wait = PAUSE_MS * 2 ** (attempt - 1);
        try {
          const response = await ask(url, accept);
          if (response.ok) return response;
          const limit = rateLimitOf(response, Date.now());
          const said = await messageOf(response);
          failure = githubFailure({
            what,
            status: response.status,
            said,
            limit,
            hasToken: token !== undefined,
          });
          if (limit) wait = waitFor(limit);
        } catch (error) {
          signal.throwIfAborted();
          failure = networkFailure(base.host, error);
        }
        if (failure.code !== 'NETWORK' || attempt >= ATTEMPTS || wait > LONGEST_WAIT_MS) throw failure;
        onProgress({ doing: `waiting to ask ${base.host} for ${what} again`, bytes: 0 });
        await sleep(wait, undefined, { signal }).catch(() => signal.throwIfAborted());
      }
    },
  };
}

/** A moment more: clocks differ. */
function waitFor({ afterMs }: RateLimit): number {
  return afterMs + 200;
}

interface RequestOptions {
  signal: AbortSignal;
  dispatcher: Dispatcher;
}

async function request(
  url: URL,
  headers: Record<string, string>,
  { signal, dispatcher }: RequestOptions,
): Promise<Response> {
  return fetch(url, {
    headers: { 'user-agent': 'lazytree', 'x-github-api-version': '2022-11-28', ...headers },
    redirect: 'manual',
    signal,
    dispatcher,
  });
}

/** @throws LazytreeError USAGE, without what may be a secret */
function baseUrl(written: string | undefined, hasToken: boolean): URL {
  const text = written || DEFAULT_API;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.search || url.hash)
    throw new LazytreeError('USAGE', 'GITHUB_API_URL is not a URL of http or https', {
      hint: `leave it out, or write one like ${DEFAULT_API}`,
    });
  if (url.username || url.password)
    throw new LazytreeError('USAGE', 'GITHUB_API_URL has a secret in it', {
      hint: 'put the token into GITHUB_TOKEN',
    });
  if (hasToken && url.protocol === 'http:' && !isLoopback(url.hostname))
    throw new LazytreeError('REFUSED', `the token is not sent to ${url.host} for everyone to read`, {
      hint: 'use a GITHUB_API_URL of https, or leave out the token',
    });
  return url;
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || /^127(\.\d+){3}$/.test(host);
}

function nextUrl(location: string, from: URL): URL {
  const url = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const allowed =
    url && (url.protocol === 'https:' || (url.protocol === 'http:' && from.protocol === 'http:'));
  if (!url || !allowed)
    throw new LazytreeError('REFUSED', `${from.host} leads to a place that is not asked`, {
      hint: 'look at GITHUB_API_URL, and at what stands between you and GitHub',
    });
  return url;
}

/** What GitHub says that is wrong, as far as it says it shortly. */
async function messageOf(response: Response): Promise<string | undefined> {
  const text = await textOf(response, SHORT_ANSWER);
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message : undefined;
  } catch {
    // Not from GitHub itself, but from something before it.
    return undefined;
  }
}

/** The text of an answer, as far as that many bytes. */
export async function textOf(response: Response, maxBytes: number): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    pieces.push(piece);
    bytes += piece.length;
    if (bytes >= maxBytes) break;
  }
  return Buffer.concat(pieces).toString('utf8', 0, maxBytes);
}
