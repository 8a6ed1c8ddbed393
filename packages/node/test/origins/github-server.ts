import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterwards } from '../../../core/test/helpers.ts';
import { git, gitBytes } from './git-repositories.ts';

export interface GithubRepository {
  /** Of a bare repository. */
  path: string;
  id: number;
  /** Not shown to those who have not got the token. */
  private?: boolean;
}

/** A server that answers as GitHub does: an API, and another host that has the archives. */
export interface GithubServer {
  apiUrl: string;
  repositories: Map<string, GithubRepository>;
  /** Old names, and the ids of what they were. */
  renamed: Map<string, number>;
  token: string;
  /** `METHOD host-kind /path`, with `+token` where one came along. */
  log: string[];
  /** Answers before anything else, when it returns true. */
  intercept?: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  /** Archives are those of this commit, whatever is asked for. */
  archiveOf?: string | undefined;
  breakOff: boolean;
}

export async function startGithubServer(): Promise<GithubServer> {
  const served: GithubServer = {
    apiUrl: '',
    repositories: new Map(),
    renamed: new Map(),
    token: 'ghp_correcthorsebatterystaple',
    log: [],
    breakOff: false,
  };
  let codeload = '';
  const api = await listen((request, response) => {
    const hasToken = noted(served, 'api', request);
    if (served.intercept?.(request, response)) return;
    answerApi(served, codeload, { request, response, hasToken });
  });
  codeload = await listen((request, response) => {
    noted(served, 'codeload', request);
    answerCodeload(served, request, response);
  });
  served.apiUrl = `${api}/api/v3`;
  return served;
}

function noted(served: GithubServer, host: string, { method, url, headers }: IncomingMessage): boolean {
  const { authorization } = headers;
  served.log.push(`${method} ${host} ${url}${authorization === undefined ? '' : ' +token'}`);
  return authorization === `Bearer ${served.token}`;
}

async function listen(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  afterwards(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  hasToken: boolean;
}

function answerApi(
  served: GithubServer,
  codeload: string,
  { request, response, hasToken }: Exchange,
): undefined {
  const fail = (status: number, message: string): undefined => {
    response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
    response.end(JSON.stringify({ message, documentation_url: 'https://docs.github.com/rest' }));
  };
  if (request.headers['user-agent'] === undefined)
    return fail(403, 'Request forbidden by administrative rules.');
  if (request.headers.authorization !== undefined && !hasToken) return fail(401, 'Bad credentials');
  const path = decodeURIComponent(request.url as string).replace(/^\/api\/v3/, '');
  const [, name, id, action, ref] =
    /^\/(?:repos\/([^/]+\/[^/]+)|repositories\/(\d+))\/(commits|tarball)\/(.+)$/.exec(path) ?? [];
  const old = name === undefined ? undefined : served.renamed.get(name);
  if (old !== undefined) {
    const location = `${served.apiUrl}/repositories/${old}/${action}/${ref}`;
    response.writeHead(301, { location, 'content-type': 'application/json' });
    response.end(JSON.stringify({ message: 'Moved Permanently', url: location }));
    return;
  }
  const repository =
    served.repositories.get(name ?? '') ??
    [...served.repositories.values()].find((one) => one.id === Number(id));
  if (!repository || (repository.private && !hasToken)) return fail(404, 'Not Found');
  const commit = commitOf(repository.path, ref);
  if (action === 'tarball') {
    const query = repository.private ? '?token=TEMPORARY' : '';
    response.writeHead(302, {
      location: `${codeload}/legacy.tar.gz/${repository.id}/${commit ?? ref}${query}`,
      'content-length': 0,
    });
    response.end();
    return;
  }
  if (commit === undefined) return fail(422, `No commit found for SHA: ${ref}`);
  if (request.headers.accept !== 'application/vnd.github.sha') return fail(415, 'Unsupported');
  response.writeHead(200, { 'content-type': 'application/vnd.github.sha; charset=utf-8' });
  response.end(commit);
}

function commitOf(path: string, ref: string): string | undefined {
  try {
    return git(path, 'rev-parse', '--verify', '--quiet', '--end-of-options', `${ref}^{commit}`);
  } catch {
    return undefined;
  }
}

/** As GitHub makes them: one directory at the top, the commit in the archive's header, no length. */
function answerCodeload(served: GithubServer, request: IncomingMessage, response: ServerResponse): void {
  const { pathname, searchParams } = new URL(request.url as string, 'http://local');
  const [, id, ref] = /^\/legacy\.tar\.gz\/(\d+)\/(.+)$/.exec(pathname) ?? [];
  const repository = [...served.repositories.values()].find((one) => one.id === Number(id));
  const commit = repository && commitOf(repository.path, served.archiveOf ?? ref);
  const allowed = !repository?.private || searchParams.get('token') === 'TEMPORARY';
  if (!repository || commit === undefined || !allowed) {
    response.writeHead(404, { 'content-type': 'text/plain' });
    response.end('404: Not Found');
    return;
  }
  const tar = gitBytes(repository.path, 'archive', `--prefix=owner-name-${commit.slice(0, 7)}/`, commit);
  const packed = gzipSync(tar);
  response.writeHead(200, { 'content-type': 'application/x-gzip', vary: 'Authorization,Accept-Encoding' });
  if (served.breakOff) {
    response.write(packed.subarray(0, packed.length >> 1), () => setTimeout(() => response.destroy(), 20));
  } else response.end(packed);
}
