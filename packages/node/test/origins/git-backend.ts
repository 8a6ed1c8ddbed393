import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface GitServer {
  /** Of the directory with the repositories. */
  url: string;
  requests: string[];
  /** Bytes of all answers' bodies. */
  sent: number;
  /** Called before each answer: true when it has answered itself. */
  intercept?: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  /** After so many bytes of an answer the connection is cut. */
  cutAfter?: number | undefined;
  /** The version of the protocol that is spoken whatever clients want. */
  protocol?: string | undefined;
  close(): void;
}

/** Serves repositories as web servers do: by git's own http-backend. Used by benchmarks as well. */
export async function startGitBackend(root: string, port = 0): Promise<GitServer> {
  const server = createServer((request, response) => {
    served.requests.push(`${request.method} ${request.url}`);
    if (served.intercept?.(request, response)) return;
    answer(root, served, request, response);
  });
  const served: GitServer = {
    url: '',
    requests: [],
    sent: 0,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  served.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return served;
}

function answer(root: string, served: GitServer, request: IncomingMessage, response: ServerResponse): void {
  const { pathname, search } = new URL(request.url as string, 'http://local');
  const { headers } = request;
  const child = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env.PATH,
      HOME: '/nonexistent',
      GIT_CONFIG_COUNT: '1',
      GIT_CONFIG_KEY_0: 'safe.directory',
      GIT_CONFIG_VALUE_0: '*',
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: '1',
      GIT_PROTOCOL: served.protocol ?? String(headers['git-protocol'] ?? ''),
      PATH_INFO: decodeURIComponent(pathname),
      QUERY_STRING: search.slice(1),
      REQUEST_METHOD: request.method,
      CONTENT_TYPE: headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: String(headers['content-encoding'] ?? ''),
      ...(headers['content-length'] === undefined ? {} : { CONTENT_LENGTH: headers['content-length'] }),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  child.stdin.on('error', () => undefined);
  request.pipe(child.stdin);
  let head: Buffer | undefined = Buffer.alloc(0);
  let sent = 0;
  child.stdout.on('data', (piece: Buffer) => {
    if (!head) return send(piece);
    head = Buffer.concat([head, piece]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    const rest = head.subarray(end + 4);
    for (const line of head.toString('latin1', 0, end).split('\r\n')) {
      const [name, value] = line.split(/: (.*)/s);
      if (name === 'Status') response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    head = undefined;
    send(rest);
  });
  child.stdout.on('end', () => response.end());
  response.on('close', () => child.kill());

  function send(piece: Buffer): void {
    sent += piece.length;
    served.sent += piece.length;
    if (served.cutAfter !== undefined && sent > served.cutAfter) response.destroy();
    else response.write(piece);
  }
}
