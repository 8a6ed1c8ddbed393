import fs from 'node:fs';
import { connect, type Socket } from 'node:net';
import { errnoOf, LazytreeError } from '@lazytree/core/errors';
import { SOCKET_NAME } from '../home-directory.js';
import { socketAddress } from './socket-address.js';
import { storeHolder } from './store-holder.js';

/** Within this a daemon that is well begins its answer. */
const ANSWER_MS = 5000;
const MAX_HEAD = 16 << 10;

export interface Answer {
  status: number;
  /** By their names in lower case. */
  headers: Map<string, string>;
  /** The rest of the answer, at the reader's pace. Ends with the connection. */
  body: AsyncIterable<Buffer>;
  close(): void;
}

export interface AskOptions {
  headers?: Record<string, string>;
  body?: string;
  /** Gives up waiting for the answer to begin. */
  signal?: AbortSignal;
}

/**
 * One HTTP/1.1 request on a home's socket. `node:http` would do it as well, and takes longer to load than all the rest
 * of a command that another process carries out. The server here is ours: it closes each connection after its answer.
 *
 * @returns undefined when no daemon listens, or one has ended before it answered
 * @throws LazytreeError FAILED when a daemon is there and says nothing, REFUSED when it is somebody else's
 */
export async function askDaemon(
  home: string,
  request: string,
  { headers = {}, body = '', signal }: AskOptions = {},
): Promise<Answer | undefined> {
  const socket = await connectDaemon(home);
  if (!socket) return undefined;
  const bytes = Buffer.from(body);
  const lines = [`${request} HTTP/1.1`, 'host: lazytree', `content-length: ${bytes.length}`];
  for (const [name, value] of Object.entries(headers)) lines.push(`${name}: ${value}`);
  // At once: the server may close the connection when it has what it needs.
  socket.write(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), bytes]));
  const late = setTimeout(() => socket.destroy(silent(home)), ANSWER_MS);
  const giveUp = () => socket.destroy(new LazytreeError('ABORTED', 'interrupted'));
  if (signal?.aborted) giveUp();
  signal?.addEventListener('abort', giveUp);
  try {
    return await readAnswer(socket);
  } catch (error) {
    socket.destroy();
    if (ENDED.has(errnoOf(error) ?? '')) return undefined;
    throw error;
  } finally {
    clearTimeout(late);
    signal?.removeEventListener('abort', giveUp);
  }
}

const NOBODY = new Set(['ENOENT', 'ECONNREFUSED', 'ECONNRESET']);
const ENDED = new Set(['ECONNRESET', 'EPIPE', 'ENDED']);

async function connectDaemon(home: string): Promise<Socket | undefined> {
  const stat = fs.statSync(`${home}/${SOCKET_NAME}`, { throwIfNoEntry: false });
  if (!stat?.isSocket()) return undefined;
  if (stat.uid !== process.getuid?.()) {
    throw new LazytreeError(
      'REFUSED',
      `the daemon of ${home} belongs to another user, with the id ${stat.uid}`,
      {
        hint: 'run the command as that user, or set LAZYTREE_HOME',
      },
    );
  }
  const { path, release } = socketAddress(home, SOCKET_NAME);
  const { promise, resolve, reject } = Promise.withResolvers<Socket | undefined>();
  const socket = connect({ path });
  const failed = (error: NodeJS.ErrnoException) => {
    // Reset: it ended while this one was waiting to be accepted.
    if (NOBODY.has(String(error.code))) resolve(undefined);
    else reject(error.code === 'EAGAIN' ? silent(home) : error);
  };
  socket.once('error', failed);
  socket.once('connect', () => {
    socket.off('error', failed);
    resolve(socket);
  });
  try {
    return await promise;
  } finally {
    release();
  }
}

function silent(home: string): LazytreeError {
  const pid = storeHolder(home);
  const who = pid ? `process ${pid}` : 'its process';
  const hint = pid ? `\`kill -CONT ${pid}\` when it is stopped, else \`kill -9 ${pid}\`` : 'end it';
  return new LazytreeError('FAILED', `the daemon of ${home} does not answer: ${who}`, { hint });
}

async function readAnswer(socket: Socket): Promise<Answer> {
  const chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let read = Buffer.alloc(0);
  let end = -1;
  while (end < 0) {
    if (read.length > MAX_HEAD) throw new Error('what listens on the socket does not speak HTTP');
    const { value, done } = await chunks.next();
    if (done) throw Object.assign(new Error('it ended'), { code: 'ENDED' });
    read = Buffer.concat([read, value]);
    end = read.indexOf('\r\n\r\n');
  }
  const [first, ...lines] = read.toString('latin1', 0, end).split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(first)?.[1]);
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  if (!status || headers.has('transfer-encoding')) throw new Error('what listens on the socket is no daemon');
  const rest = read.subarray(end + 4);
  return { status, headers, body: body(rest, chunks), close: () => socket.destroy() };
}

async function* body(first: Buffer, chunks: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (first.length > 0) yield first;
  for (;;) {
    const { value, done } = await chunks.next();
    if (done) return;
    yield value;
  }
}
