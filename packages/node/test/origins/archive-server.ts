import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterwards } from '../../../core/test/helpers.js';

/** A server of files from memory that can be told to misbehave. */
export interface ArchiveServer {
  url: string;
  files: Map<string, Buffer>;
  /** Requests so far, as `GET /name range`. */
  log: string[];
  /** Takes requests and says nothing. */
  stall(): () => void;
  /** Sends a half of what is asked for, and closes: so many times. */
  breakOff(times?: number): () => void;
  /** Answers with a status: so many times. */
  fail(status: number, times?: number): () => void;
}

/** @param host address of this machine that it is reached at */
export async function archiveServer(host = '127.0.0.1'): Promise<ArchiveServer> {
  const files = new Map<string, Buffer>();
  const log: string[] = [];
  let stalled = false;
  let breaks = 0;
  let failure = { status: 0, times: 0 };
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent((request.url ?? '').slice(1).split('?')[0]);
    log.push(`${request.method} /${name} ${request.headers.range ?? ''}`.trim());
    if (stalled) return;
    if (failure.times > 0) {
      failure.times -= 1;
      response.writeHead(failure.status).end();
      return;
    }
    const content = files.get(name);
    if (!content) {
      response.writeHead(404).end('no such file');
      return;
    }
    const etag = `"${content.length}-${name}"`;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const ranged = from > 0 && request.headers['if-range'] === etag;
    const body = ranged ? content.subarray(from) : content;
    const range = `bytes ${from}-${content.length - 1}/${content.length}`;
    const headers = { 'content-length': body.length, etag, ...(ranged && { 'content-range': range }) };
    response.writeHead(ranged ? 206 : 200, headers);
    if (breaks > 0) {
      breaks -= 1;
      response.write(body.subarray(0, body.length >> 1), () => setTimeout(() => response.destroy(), 20));
      return;
    }
    response.end(body);
  });
  server.listen(0, host);
  await once(server, 'listening');
  afterwards(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://${host}:${(server.address() as AddressInfo).port}`,
    files,
    log,
    stall() {
      stalled = true;
      return () => {
        stalled = false;
        server.closeAllConnections();
      };
    },
    breakOff(times = 1000) {
      breaks = times;
      return () => {
        breaks = 0;
      };
    },
    fail(status, times = 1000) {
      failure = { status, times };
      return () => {
        failure = { status: 0, times: 0 };
      };
    },
  };
}
