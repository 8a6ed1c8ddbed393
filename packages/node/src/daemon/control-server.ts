import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createCommandStream } from './command-stream.js';
import type { Log } from './log.js';
import {
  API,
  COMMAND_HEADER,
  type CommandRequest,
  type DaemonStatus,
  type ExecuteCommand,
  FRAMES_TYPE,
  type Refusal,
  VERSION_HEADER,
} from './protocol.js';

// An import makes all that the module exports, among them a WebSocket, whose library takes longer to load than all else
// that the daemon needs to be ready.
const { createServer } = process.getBuiltinModule('node:http');

/** Bytes of a request's body: more than the system lets a command line have, each byte escaped. */
const MAX_BODY = 16 << 20;
/** Output of a command that may wait for its reader: enough that neither waits for the other all the time. */
const AHEAD_BYTES = 512 << 10;

export interface ControlServerOptions {
  version: string;
  execute: ExecuteCommand;
  log: Log;
  /** What the daemon says about itself, besides its commands. */
  status(): Omit<DaemonStatus, 'commands'>;
  /** Asked to end. */
  onStop(): void;
  /** Asked to stay even when it has nothing to do. */
  onStay(): void;
  /** The last command has ended. */
  onIdle(): void;
}

interface Running {
  id: number;
  name: string;
  since: number;
  cancel(): void;
  isEndless(): boolean;
}

export interface ControlServer {
  readonly http: Server;
  running(): number;
  /** Reads the code that the first command needs: whoever has seen that the daemon is ready is about to send one. */
  prepare(): void;
  /** From here on commands are refused, and those without an end are cancelled. */
  refuse(): void;
  /** Resolves when no command runs any more. */
  settled(): Promise<void>;
  cancelAll(): void;
}

const loadParser = () => import('./command-request.js');

/** The API that docs/daemon.md describes. It listens to nothing by itself. */
export function createControlServer(options: ControlServerOptions): ControlServer {
  const { version, execute, log } = options;
  const commands = new Map<number, Running>();
  let lastId = 0;
  let closing = false;
  let waiting: (() => void)[] = [];

  const routes: Record<string, (request: IncomingMessage, response: ServerResponse) => unknown> = {
    [`POST ${API}/commands`]: runCommand,
    [`GET ${API}/status`]: (_, response) => answer(response, 200, status()),
    [`POST ${API}/stop`]: (_, response) => {
      answer(response, 202, status());
      options.onStop();
    },
    [`POST ${API}/stay`]: (_, response) => {
      options.onStay();
      answer(response, 200, status());
    },
  };

  const http = createServer({ highWaterMark: AHEAD_BYTES }, (request, response) => {
    response.setHeader('connection', 'close');
    const { method = '', url = '' } = request;
    const cancelled = method === 'DELETE' && /^\/v1\/commands\/(\d{1,15})$/.exec(url)?.[1];
    const route = cancelled ? () => cancel(Number(cancelled), response) : routes[`${method} ${url}`];
    if (route) void route(request, response);
    else refuseWith(response, 404, { code: 'NOT_FOUND', message: `there is no ${method} ${url}` });
  });
  http.maxConnections = 1024;

  function status(): DaemonStatus {
    const now = performance.now();
    return {
      ...options.status(),
      commands: [...commands.values()].map(({ id, name, since }) => ({
        id,
        name,
        seconds: (now - since) / 1000,
      })),
    };
  }

  async function runCommand(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Read to its end even when it is refused: whoever is still writing would not see the answer.
    const body = await readBody(request).catch(() => undefined);
    if (body === undefined)
      return refuseWith(response, 413, { code: 'USAGE', message: `a body of more than ${MAX_BODY} bytes` });
    if (closing) return refuseWith(response, 503, { code: 'CLOSING', message: 'the daemon is ending' });
    const theirs = request.headers[VERSION_HEADER];
    if (theirs !== undefined && theirs !== version) {
      const message = `the daemon (process ${process.pid}) is lazytree ${version}, not ${theirs}`;
      return refuseWith(response, 409, { code: 'VERSION', message });
    }
    let command: CommandRequest;
    try {
      command = (await loadParser()).parseCommandRequest(body);
    } catch (error) {
      return refuseWith(response, 400, { code: 'USAGE', message: (error as Error).message });
    }
    await follow(command, response);
  }

  /** Runs a command to its end; what it throws is its caller's affair and never the daemon's. */
  async function follow(request: CommandRequest, response: ServerResponse): Promise<void> {
    const id = ++lastId;
    const name = request.argv.find((argument) => !argument.startsWith('-')) ?? '';
    const stream = createCommandStream(response);
    const since = performance.now();
    commands.set(id, { id, name, since, cancel: stream.cancel, isEndless: stream.isEndless });
    // The answer ends with the connection.
    response.useChunkedEncodingByDefault = false;
    response.writeHead(200, { 'content-type': FRAMES_TYPE, [COMMAND_HEADER]: id });
    response.flushHeaders();
    let exitCode = 1;
    try {
      exitCode = await execute(request, stream);
    } catch (err) {
      log.error({ err, id, command: name }, 'a command failed in a way that it should not');
      stream.stderr(`lazytree: ${name} failed in the daemon: ${String(err).split('\n')[0]}\n`);
    }
    const ms = Math.round(performance.now() - since);
    log.info(
      { id, command: name, exitCode, ms, ...(stream.signal.aborted && { cancelled: true }) },
      'command',
    );
    commands.delete(id);
    await stream.end(exitCode);
    if (commands.size > 0) return;
    for (const resolve of waiting) resolve();
    waiting = [];
    options.onIdle();
  }

  function cancel(id: number, response: ServerResponse): void {
    const command = commands.get(id);
    command?.cancel();
    if (command) answer(response, 202, {});
    else refuseWith(response, 404, { code: 'NOT_FOUND', message: `no command ${id} runs` });
  }

  function refuseWith(response: ServerResponse, code: number, error: Refusal['error']): void {
    answer(response, code, { error, pid: process.pid } satisfies Refusal);
  }

  return {
    http,
    running: () => commands.size,
    prepare() {
      // Who needs it then meets the same error.
      loadParser().catch(() => undefined);
    },
    refuse() {
      closing = true;
      for (const { cancel, isEndless } of commands.values()) if (isEndless()) cancel();
    },
    settled: () =>
      commands.size === 0 ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve)),
    cancelAll() {
      for (const { cancel } of commands.values()) cancel();
    },
  };
}

function answer(response: ServerResponse, code: number, body: unknown): void {
  const bytes = Buffer.from(`${JSON.stringify(body)}\n`);
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': bytes.length });
  response.end(bytes);
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_BODY) throw new Error('too long');
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}
