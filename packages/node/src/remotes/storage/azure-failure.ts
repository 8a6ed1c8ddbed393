import { LazytreeError } from '@lazytree/core/errors';
import type { Verdict } from './try-again.js';

/** What an error of the Azure library has that is looked at. The error itself has headers, and goes nowhere. */
interface Failure {
  name?: unknown;
  code?: unknown;
  statusCode?: unknown;
  message?: unknown;
  response?: { headers?: { get(name: string): string | undefined } };
}

export interface FailureContext {
  /** What could not be done, for people. */
  doing: string;
  account: string;
  container: string;
  /** What it is reached with, for people. */
  via: string;
  endpoint: string;
}

/** Clocks further apart than that are said to be, where a request is refused. Azure takes 15 minutes. */
const SKEW_MS = 5 * 60_000;

const PASSING = new Set([408, 429, 500, 502, 503, 504]);

/** Of connections. Whatever has no name in here is not thought to pass. */
const CUT: Record<string, string> = {
  ECONNRESET: 'the connection was cut',
  ECONNABORTED: 'the connection was cut',
  EPIPE: 'the connection was cut',
  REQUEST_SEND_ERROR: 'the connection was cut',
  PARSE_ERROR: 'its answer is not whole',
  ECONNREFUSED: 'nobody listens there',
  ETIMEDOUT: 'it does not answer',
  EHOSTUNREACH: 'no route leads there',
  ENETUNREACH: 'no network leads there',
  EAI_AGAIN: 'its name cannot be looked up now',
};

export function statusOf(error: unknown): number | undefined {
  const { statusCode } = error as Failure;
  return typeof statusCode === 'number' ? statusCode : undefined;
}

/** Azure's name for what is wrong, from the answer's header: an answer to HEAD has nothing else. */
export function serviceCodeOf(error: unknown): string | undefined {
  const code = headerOf(error, 'x-ms-error-code') ?? (error as Failure).code;
  return typeof code === 'string' && /^[A-Za-z][A-Za-z0-9_]{0,80}$/.test(code) ? code : undefined;
}

export function headerOf(error: unknown, name: string): string | undefined {
  return (error as Failure).response?.headers?.get(name);
}

/** Whether nobody knows if what was asked for was done. */
export function isUncertain(error: unknown): boolean {
  const status = statusOf(error);
  return status === undefined || status >= 500 || status === 408;
}

/**
 * What a failed attempt means, in words of its own: what the library and the service say may have signatures in it.
 */
export function judgeAzureFailure(error: unknown, context: FailureContext): Verdict {
  if (error instanceof LazytreeError) return { error, again: error.code === 'NETWORK' };
  const status = statusOf(error);
  const code = serviceCodeOf(error);
  if (status === undefined) return judgeConnection(error, code, context);
  const { doing, container, account } = context;
  const said = code === undefined ? `HTTP ${status}` : `HTTP ${status}, ${code}`;
  const id = headerOf(error, 'x-ms-request-id');
  const asked = id !== undefined && /^[\w-]{1,60}$/.test(id) ? `, request ${id}` : '';
  const network = (why: string, hint?: string) => new LazytreeError('NETWORK', `${doing}: ${why}`, { hint });
  if (status === 401 || status === 403) return { error: refused(said + asked, error, context), again: false };
  if (code === 'ContainerNotFound' || code === 'ContainerBeingDeleted') {
    const hint = `make it: az storage container create --account-name ${account} --name ${container}`;
    const text = `${doing}: the container '${container}' of the account '${account}' does not exist`;
    return { error: new LazytreeError('NOT_FOUND', text, { hint }), again: false };
  }
  if (PASSING.has(status)) {
    const why = status === 429 || status === 503 ? 'the storage is too busy' : 'the storage failed';
    return { error: network(`${why} (${said}${asked})`), again: true, afterMs: retryAfter(error) };
  }
  // Azurite has the other name for it.
  if (code === 'Md5Mismatch' || code === 'InvalidOperation')
    return { error: network(`bytes were changed on their way (${said})`), again: true };
  if (status === 507) {
    const text = `${doing}: the storage is full (${said}${asked})`;
    return { error: new LazytreeError('NO_SPACE', text), again: false };
  }
  if (status === 409 || status === 412) {
    const text = `${doing}: the storage does not allow it (${said}${asked})`;
    const hint = 'see whether a lease, a policy or a snapshot holds the blob';
    return { error: new LazytreeError('REFUSED', text, { hint }), again: false };
  }
  const hint = 'see whether the endpoint is that of a storage account, and no proxy answers for it';
  return { error: network(`the storage did not understand (${said}${asked})`, hint), again: false };
}

function judgeConnection(error: unknown, code: string | undefined, context: FailureContext): Verdict {
  const { doing, endpoint } = context;
  const name = String((error as Failure).name);
  const host = new URL(endpoint).host;
  const network = (why: string, hint?: string) =>
    new LazytreeError('NETWORK', `${doing}: ${host}: ${why}`, { hint });
  // The library says so where a body ended early, too.
  if (name === 'AbortError') return { error: network(CUT.ECONNRESET), again: true };
  if (code === 'ENOTFOUND') {
    const hint = 'see whether the name of the account is right, and whether there is a network';
    return { error: network('there is no such host', hint), again: false };
  }
  if (code !== undefined && /CERT|SELF_SIGNED|UNABLE_TO|SSL|TLS|EPROTO/.test(code)) {
    const hint =
      'NODE_EXTRA_CA_CERTS names a file with certificates to trust; a service without TLS has http:// as endpoint';
    return { error: network(`no secure connection (${code})`, hint), again: false };
  }
  if (code !== undefined && code in CUT) return { error: network(CUT[code]), again: true };
  if (code !== undefined && /^(?:HPE_|ERR_STREAM|UND_ERR)/.test(code))
    return { error: network(`its answer is not whole (${code})`), again: true };
  if (/Data corruption failure/.test(String((error as Failure).message)))
    return { error: network(CUT.PARSE_ERROR), again: true };
  return { error: network(`the request failed (${code ?? name})`), again: false };
}

/** By what Azure calls it. */
const ADVICE: Record<string, string> = {
  AuthorizationPermissionMismatch:
    'it may not do this: it takes the role `Storage Blob Data Contributor`, or a SAS token with r, w, d, l and c',
  AuthorizationServiceMismatch: 'the SAS token is for another service: it takes one for blobs',
  AuthorizationResourceTypeMismatch:
    'the SAS token is for other things: it takes one for containers and objects',
  AuthorizationSourceIPMismatch: 'the SAS token is for another address',
  AuthorizationProtocolMismatch: 'the SAS token is for https alone',
  AuthorizationFailure:
    'see whether the key or token is right; the firewall of the storage account may not let this machine in either',
  KeyBasedAuthenticationNotPermitted: 'the account takes no keys: use a SAS token, or `az login`',
  PublicAccessNotPermitted: 'no credentials were sent, and the account is not public',
  NoAuthenticationInformation: 'no credentials were sent, and the account is not public',
  AccountIsDisabled: 'the storage account is disabled',
};

function refused(said: string, error: unknown, context: FailureContext): LazytreeError {
  const { doing, via } = context;
  const code = serviceCodeOf(error);
  // How far this machine's clock is before that of the storage.
  const skew = Date.now() - Date.parse(headerOf(error, 'date') ?? '');
  if (Math.abs(skew) > SKEW_MS) {
    const minutes = Math.round(Math.abs(skew) / 60_000);
    const far = minutes < 120 ? `${minutes} minutes` : `${Math.round(minutes / 60)} hours`;
    const text = `${doing}: refused (${said}): the clock of this machine is ${far} ${skew > 0 ? 'ahead of' : 'behind'} that of the storage`;
    return new LazytreeError('REFUSED', text, { hint: 'set the clock: what is signed is valid for minutes' });
  }
  const until = /valid until (\S+)$/.exec(via)?.[1];
  const isOver = until !== undefined && Date.parse(until) < Date.now();
  const hint = isOver
    ? 'the SAS token is no longer valid: make another'
    : ((code && ADVICE[code]) ?? `see whether ${via} is right for the account '${context.account}'`);
  return new LazytreeError('REFUSED', `${doing}: refused (${said}), with ${via}`, { hint });
}

/** @returns milliseconds */
function retryAfter(error: unknown): number | undefined {
  const milliseconds = Number(headerOf(error, 'x-ms-retry-after-ms') ?? headerOf(error, 'retry-after-ms'));
  if (milliseconds > 0) return milliseconds;
  const text = headerOf(error, 'retry-after');
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return ms > 0 ? ms : undefined;
}
