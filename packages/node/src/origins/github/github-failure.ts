import { LazytreeError } from '@lazytree/core';

/** That GitHub has had enough of us for now. */
export interface RateLimit {
  /** Milliseconds until it takes requests again. */
  afterMs: number;
}

/** When nothing is said, a minute is to be waited. */
const UNSAID_MS = 60_000;

/** The limit that an answer tells of, if it is one. */
export function rateLimitOf(
  { status, headers }: { status: number; headers: { get(name: string): string | null } },
  now: number,
): RateLimit | undefined {
  if (status !== 403 && status !== 429) return undefined;
  const after = headers.get('retry-after');
  if (after !== null && /^\d{1,7}$/.test(after)) return { afterMs: Number(after) * 1000 };
  const reset = headers.get('x-ratelimit-reset');
  if (headers.get('x-ratelimit-remaining') === '0' && reset !== null && /^\d{1,12}$/.test(reset))
    return { afterMs: Math.max(0, Number(reset) * 1000 - now) };
  return status === 429 ? { afterMs: UNSAID_MS } : undefined;
}

export interface GithubAnswer {
  /** What was asked for, for people. */
  what: string;
  status: number;
  said: string | undefined;
  limit: RateLimit | undefined;
  hasToken: boolean;
}

const TOKEN = 'set GITHUB_TOKEN to a token that may read the repository';

/** What it means that GitHub does not give what was asked for. */
export function githubFailure({ what, status, said, limit, hasToken }: GithubAnswer): LazytreeError {
  const words = said === undefined ? `status ${status}` : `${printable(said)} (${status})`;
  if (limit) {
    const when = new Date(Date.now() + limit.afterMs).toISOString().replace(/\.\d+Z$/, 'Z');
    return new LazytreeError('NETWORK', `GitHub takes no more requests until ${when}: ${words}`, {
      hint: hasToken ? 'try again then' : `try again then, or ${TOKEN}: with one there are many more`,
    });
  }
  if (status === 401)
    return new LazytreeError('REFUSED', `GitHub does not take the token for ${what}: ${words}`, {
      hint: 'look at GITHUB_TOKEN and GH_TOKEN: it has expired, or is not one of GitHub',
    });
  if (status === 404)
    return new LazytreeError('NOT_FOUND', `GitHub has no ${what}, or does not show it: ${words}`, {
      hint: hasToken
        ? 'check the names; the token in the environment may not be allowed to read the repository'
        : `check the names; if the repository is private, ${TOKEN}`,
    });
  if (status === 409 || status === 410 || status === 422)
    return new LazytreeError('NOT_FOUND', `GitHub has no ${what}: ${words}`, {
      hint: 'check the name of the branch, tag or commit',
    });
  if (status === 403 || status === 451)
    return new LazytreeError('REFUSED', `GitHub does not give ${what}: ${words}`, {
      hint: hasToken ? 'the token in the environment may not be allowed to read it' : TOKEN,
    });
  const passing = status >= 500 || status === 408;
  return new LazytreeError(passing ? 'NETWORK' : 'FAILED', `GitHub cannot give ${what}: ${words}`, {
    hint: 'try again later',
  });
}

/** A request that has had no answer. */
export function networkFailure(host: string, cause: unknown): LazytreeError {
  if (cause instanceof LazytreeError) return cause;
  const { cause: inner, message } = cause as Error;
  const why = (inner as Error | undefined)?.message || message;
  return new LazytreeError('NETWORK', `${host} cannot be asked: ${why}`, {
    cause,
    hint: 'check the connection, and try again; what was resolved before can be used with --offline',
  });
}

function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal is not to obey them
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ').slice(0, 200);
}
