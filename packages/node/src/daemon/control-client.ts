import { LazytreeError } from '@lazytree/core/errors';
import { createFrameReader, Frame, type ProgressEvent } from './frames.js';
import { type Answer, askDaemon } from './http-request.js';
import {
  API,
  COMMAND_HEADER,
  type CommandRequest,
  type DaemonStatus,
  type Refusal,
  VERSION_HEADER,
} from './protocol.js';

/** Where the caller wants the output of its command. */
export interface CommandSink {
  /** At the pace of whoever reads it. False when nobody reads it any more. */
  stdout(bytes: Uint8Array): Promise<boolean>;
  stderr(text: Uint8Array): void;
  progress(event: ProgressEvent): Promise<void>;
}

export interface AskCommandOptions {
  version: string;
  sink: CommandSink;
  /** Cancels the command; its end is waited for. */
  signal: AbortSignal;
}

/** With so many milliseconds between, a command that meets a daemon at its end looks whether it has gone. */
const LOOK_MS = 25;
/** Longer than a daemon takes to end: see runDaemon. */
const ENDING_MS = 60_000;

/**
 * Has the home's daemon run a command, and returns its exit code.
 *
 * @returns undefined when no daemon runs; then nothing has been done
 * @throws LazytreeError FAILED, REFUSED
 */
export async function runThroughDaemon(
  home: string,
  request: CommandRequest,
  options: AskCommandOptions,
): Promise<number | undefined> {
  const { version, sink, signal } = options;
  const began = performance.now();
  for (;;) {
    const answer = await askDaemon(home, `POST ${API}/commands`, {
      headers: { 'content-type': 'application/json', [VERSION_HEADER]: version },
      body: JSON.stringify(request),
      signal,
    });
    if (!answer) return undefined;
    if (answer.status === 200) return follow(home, answer, { sink, signal });
    const refusal = await refusalOf(answer);
    if (refusal.error.code !== 'CLOSING' || performance.now() - began > ENDING_MS) throw asError(refusal);
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function follow(
  home: string,
  { headers, body, close }: Answer,
  { sink, signal }: Pick<AskCommandOptions, 'sink' | 'signal'>,
): Promise<number> {
  const id = headers.get(COMMAND_HEADER);
  const cancel = () => void askDaemon(home, `DELETE ${API}/commands/${id}`).catch(() => undefined);
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  const read = createFrameReader();
  let outcome: number | undefined;
  try {
    for await (const bytes of body) {
      for (const { kind, payload } of read(bytes)) {
        if (kind === Frame.stdout) {
          // What follows would be for nobody: the daemon may stop.
          if (!(await sink.stdout(payload))) return outcome ?? 0;
        } else if (kind === Frame.stderr) sink.stderr(payload);
        else if (kind === Frame.progress) await sink.progress(JSON.parse(payload.toString()));
        else if (kind === Frame.outcome) outcome = JSON.parse(payload.toString()).exitCode;
        else if (kind === Frame.end) return JSON.parse(payload.toString()).exitCode;
      }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
  } finally {
    signal.removeEventListener('abort', cancel);
    close();
  }
  throw new LazytreeError('FAILED', `the daemon of ${home} ended before the command did`, {
    hint: `see ${home}/daemon.log, and run the command again`,
  });
}

async function refusalOf({ body }: Answer): Promise<Refusal> {
  const text = await textOf(body);
  try {
    const refusal = JSON.parse(text) as Refusal;
    if (typeof refusal.error?.message === 'string') return refusal;
  } catch {
    // Said below.
  }
  return { error: { code: 'VERSION', message: 'the daemon speaks another protocol' }, pid: 0 };
}

function asError({ error: { code, message } }: Refusal): LazytreeError {
  const another = code === 'VERSION' || code === 'NOT_FOUND';
  return new LazytreeError('FAILED', message, another ? { hint: 'run `lazytree daemon stop`' } : {});
}

async function textOf(body: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of body) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** What the home's daemon says about itself, or undefined when there is none. */
export function daemonStatus(home: string): Promise<DaemonStatus | undefined> {
  return askForStatus(home, `GET ${API}/status`);
}

/** Tells a daemon that was started for a command to stay. */
export function keepDaemon(home: string): Promise<DaemonStatus | undefined> {
  return askForStatus(home, `POST ${API}/stay`);
}

/**
 * Ends the home's daemon, and waits till it has gone.
 *
 * @returns what it was, or undefined when there was none
 */
export async function stopDaemon(home: string): Promise<DaemonStatus | undefined> {
  const before = await askForStatus(home, `POST ${API}/stop`);
  if (!before) return undefined;
  const began = performance.now();
  for (;;) {
    const now = await daemonStatus(home);
    if (now?.pid !== before.pid) return before;
    if (performance.now() - began > ENDING_MS) {
      throw new LazytreeError('FAILED', `the daemon of ${home} (process ${now.pid}) is still ending`, {
        hint: `see ${home}/daemon.log; \`kill -9 ${now.pid}\` ends it at once`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function askForStatus(home: string, request: string): Promise<DaemonStatus | undefined> {
  const answer = await askDaemon(home, request);
  if (!answer) return undefined;
  if (answer.status >= 300) throw asError(await refusalOf(answer));
  return JSON.parse(await textOf(answer.body));
}
