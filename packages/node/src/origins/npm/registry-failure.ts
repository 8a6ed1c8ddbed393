import { LazytreeError } from '@lazytree/core/errors';

interface RegistryError {
  code?: unknown;
  statusCode?: unknown;
  message?: unknown;
  headers?: Record<string, string[] | undefined>;
}

/** Statuses after which the same request may do. */
const PASSING = new Set([408, 420, 425, 429, 500, 502, 503, 504]);
/** What no second attempt mends. */
const LASTING = new Set(['ENOTFOUND', 'EAI_NONAME', 'CERT_HAS_EXPIRED', 'DEPTH_ZERO_SELF_SIGNED_CERT']);

export interface RegistryVerdict {
  error: LazytreeError;
  /** Whether another attempt may end otherwise. */
  again: boolean;
  /** Milliseconds that the registry asks for before it. */
  afterMs: number;
}

/** What a failed request means; the text has nothing in it that the registry, or a configuration, could have put there. */
export function judgeRegistryFailure(
  cause: unknown,
  { url, what }: { url: string; what: string },
): RegistryVerdict {
  if (cause instanceof LazytreeError) return { error: cause, again: cause.code === 'NETWORK', afterMs: 0 };
  const { code, statusCode, headers } = (cause ?? {}) as RegistryError;
  const { host } = new URL(url);
  const once = (error: LazytreeError): RegistryVerdict => ({ error, again: false, afterMs: 0 });
  if (statusCode === 404 || statusCode === 410) {
    return once(
      new LazytreeError('NOT_FOUND', `${what} is not at ${host}`, {
        hint: 'look at its name, and at which registry .npmrc names for it',
      }),
    );
  }
  if (statusCode === 401 || statusCode === 403 || statusCode === 407) {
    return once(
      new LazytreeError(
        'REFUSED',
        `${host} does not give ${what} without other credentials (HTTP ${statusCode})`,
        {
          hint: `log in with \`npm login\`, or put //${host}/:_authToken=… into .npmrc`,
        },
      ),
    );
  }
  if (typeof statusCode === 'number') {
    return {
      error: new LazytreeError('NETWORK', `${host} answered with HTTP ${statusCode} for ${what}`, {
        hint: 'try again later; what was fetched before is kept',
      }),
      again: PASSING.has(statusCode),
      afterMs: retryAfter(headers?.['retry-after']?.[0]),
    };
  }
  return {
    error: new LazytreeError('NETWORK', `${what} did not come from ${host}: ${reasonOf(code, cause)}`, {
      cause,
      hint: 'look at the network, the proxy and the registry that .npmrc names; what was fetched before is kept',
    }),
    again: typeof code !== 'string' || !LASTING.has(code),
    afterMs: 0,
  };
}

/** Codes are of node and its libraries; a message could have a URL with credentials in it. */
function reasonOf(code: unknown, cause: unknown): string {
  if (typeof code === 'string') return code;
  const type = (cause as { type?: unknown } | undefined)?.type;
  return typeof type === 'string' ? type : 'the connection ended';
}

function retryAfter(value: string | undefined): number {
  const seconds = Number(value);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 60) * 1000 : 0;
}
