import { once } from 'node:events';
import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request,
  type ServerResponse,
} from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** What happens to a request that goes through the proxy, instead of being passed on and answered. */
export type Fault =
  /** The server never hears of it, and it is answered so. */
  | { kind: 'answer'; status: number; headers?: OutgoingHttpHeaders; body?: string }
  /** The connection is reset after so many bytes of the request's body. */
  | { kind: 'cut request'; after: number }
  /** After so many bytes of the answer's body. */
  | { kind: 'cut answer'; after: number }
  /** The server carries it out, and the connection is reset before the first byte of the answer. */
  | { kind: 'lose answer' }
  /** Nothing is answered, ever. */
  | { kind: 'black hole' }
  /** So many bytes of the answer's body, and then nothing more. */
  | { kind: 'stall answer'; after: number }
  | { kind: 'slow answer'; bytesPerSecond: number }
  /** A byte in the middle of the body is another one. */
  | { kind: 'spoil request' }
  | { kind: 'spoil answer' }
  /** What the server said, with another date. */
  | { kind: 'shift date'; milliseconds: number };

export interface Seen {
  method: string;
  /** Path and query. */
  url: string;
  headers: IncomingHttpHeaders;
}

export interface Planned {
  /** How many requests it happens to; 1 by default. */
  times?: number;
  /** To which requests; to any by default. */
  to?: (seen: Seen) => boolean;
}

/** An HTTP proxy before a server, with which things go wrong. Nothing of vitest in here: benchmarks use it, too. */
export interface HttpFaultProxy {
  port: number;
  /** Plans a fault. Those that were planned first happen first. */
  plan(fault: Fault, planned?: Planned): void;
  /** Forgets what was planned and has not happened. */
  clear(): void;
  /** Requests so far, those that went wrong included. */
  seen(): Seen[];
  /** Connections that were ever made. */
  connections(): number;
  close(): Promise<void>;
}

export async function startHttpFaultProxy(target: { host: string; port: number }): Promise<HttpFaultProxy> {
  const plans: { fault: Fault; left: number; to: (seen: Seen) => boolean }[] = [];
  const seen: Seen[] = [];
  let connections = 0;
  const agent = new Agent({ keepAlive: true });

  const server = createServer((incoming, answer) => {
    const { method = '', url = '', headers } = incoming;
    const about = { method, url, headers };
    seen.push(about);
    const plan = plans.find(({ left, to }) => left > 0 && to(about));
    if (plan) plan.left--;
    // Either side may be gone at any time: that is what this is for.
    incoming.on('error', () => undefined);
    answer.on('error', () => undefined);
    carryOut(plan?.fault, incoming, answer).catch(() => incoming.socket.resetAndDestroy());
  });
  server.on('connection', () => {
    connections++;
  });
  server.requestTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  async function carryOut(fault: Fault | undefined, incoming: IncomingMessage, answer: ServerResponse) {
    if (fault?.kind === 'cut request') {
      await readSome(incoming, fault.after);
      incoming.socket.resetAndDestroy();
      return;
    }
    const body = await readAll(incoming);
    if (fault?.kind === 'black hole') return;
    if (fault?.kind === 'answer') {
      const { status, headers, body: text = '' } = fault;
      answer.writeHead(status, { 'content-length': Buffer.byteLength(text), ...headers });
      answer.end(text);
      return;
    }
    if (fault?.kind === 'spoil request') spoil(body);
    const { response, bytes } = await pass(incoming, body);
    if (fault?.kind === 'lose answer') {
      incoming.socket.resetAndDestroy();
      return;
    }
    const headers: OutgoingHttpHeaders = { ...response.headers };
    if (fault?.kind === 'shift date')
      headers.date = new Date(Date.parse(String(headers.date)) + fault.milliseconds).toUTCString();
    if (fault?.kind === 'spoil answer') spoil(bytes);
    delete headers['transfer-encoding'];
    if (incoming.method !== 'HEAD') headers['content-length'] = bytes.length;
    answer.writeHead(response.statusCode ?? 500, headers);
    if (fault?.kind === 'cut answer' || fault?.kind === 'stall answer') {
      answer.flushHeaders();
      await new Promise<void>((resolve) => answer.write(bytes.subarray(0, fault.after), () => resolve()));
      if (fault.kind === 'cut answer') incoming.socket.resetAndDestroy();
      return;
    }
    if (fault?.kind === 'slow answer') {
      answer.flushHeaders();
      const piece = Math.max(1, Math.round(fault.bytesPerSecond / 20));
      for (let at = 0; at < bytes.length && !answer.destroyed; at += piece) {
        answer.write(bytes.subarray(at, at + piece));
        await sleep(50);
      }
    }
    answer.end(fault?.kind === 'slow answer' ? undefined : bytes);
  }

  async function pass(incoming: IncomingMessage, body: Buffer) {
    const { method, url, headers } = incoming;
    const passed = request({ ...target, method, path: url, headers, agent });
    passed.end(body);
    const [response] = (await once(passed, 'response')) as [IncomingMessage];
    return { response, bytes: await readAll(response) };
  }

  return {
    port: (server.address() as { port: number }).port,
    plan(fault, { times = 1, to = () => true } = {}) {
      plans.push({ fault, left: times, to });
    },
    clear() {
      plans.length = 0;
    },
    seen: () => [...seen],
    connections: () => connections,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      agent.destroy();
      await closed;
    },
  };
}

function spoil(bytes: Buffer): void {
  if (bytes.length > 0) bytes[bytes.length >> 1] ^= 1;
}

async function readAll(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

async function readSome(stream: IncomingMessage, bytes: number): Promise<void> {
  let read = 0;
  if (bytes === 0) return;
  for await (const part of stream.iterator({ destroyOnReturn: false })) {
    read += part.length;
    if (read >= bytes) return;
  }
}
