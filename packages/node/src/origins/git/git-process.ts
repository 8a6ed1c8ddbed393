import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { errnoOf, LazytreeError } from '@lazytree/core';
import { gitFailure } from './git-failure.js';

/** Characters of what git says that are kept, the last ones. */
const MAX_SAID = 16_384;
/** Bytes of an answer that is taken as a whole. */
const MAX_ANSWER = 64 << 20;
/** How long git may take to clean up behind itself when it has been told to end. */
const GRACE_MS = 2000;

export interface GitOptions {
  signal: AbortSignal;
  environment: NodeJS.ProcessEnv;
  /** For people, of errors: the repository as its user knows it. */
  where: string;
  /** Gets what git says on stderr as it comes. */
  onSaid?: ((text: string) => void) | undefined;
}

export interface GitProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /**
   * Settles when git has ended and its output has been closed.
   *
   * @throws LazytreeError as {@link gitFailure}, UNSUPPORTED where there is no git; the signal's reason
   */
  readonly ended: Promise<void>;
  /** Ends git, and what it has started, for a reason that is not its own. `ended` then is fulfilled. */
  stop(): void;
}

/** Starts git in a process group of its own, so that whatever it has started ends with it. */
export function startGit(args: readonly string[], options: GitOptions): GitProcess {
  const { signal, environment, where, onSaid } = options;
  signal.throwIfAborted();
  const child: ChildProcessByStdio<Writable, Readable, Readable> = spawn('git', args, {
    cwd: '/',
    env: environment,
    stdio: ['pipe', 'pipe', 'pipe'],
    // Without a terminal: nothing that git starts can ask a person for anything.
    detached: true,
  });
  let said = '';
  let stopped = false;
  let closed = false;
  let killer: NodeJS.Timeout | undefined;

  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text: string) => {
    said = (said + text).slice(-MAX_SAID);
    onSaid?.(text);
  });
  // Node throws away what nobody has begun to read when a process ends.
  child.stdout.on('readable', () => undefined);
  // That it no longer reads shows in how it ends.
  child.stdin.on('error', () => undefined);

  function end(how: NodeJS.Signals): void {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, how);
    } catch (error) {
      if (errnoOf(error) !== 'ESRCH') throw error;
    }
  }

  function stop(): void {
    if (stopped || closed) return;
    stopped = true;
    child.stdout.destroy();
    end('SIGTERM');
    killer = setTimeout(end, GRACE_MS, 'SIGKILL');
  }

  signal.addEventListener('abort', stop, { once: true });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', (error) => {
      if (errnoOf(error) !== 'ENOENT') reject(error);
      else reject(new LazytreeError('UNSUPPORTED', `there is no git to read ${where} with`, NO_GIT));
    });
    child.once('close', (code, how) => {
      if (signal.aborted) reject(signal.reason);
      else if (code === 0 || stopped) resolve();
      else reject(gitFailure({ what: args, code: code ?? how, said, where }));
    });
  }).finally(() => {
    closed = true;
    clearTimeout(killer);
    signal.removeEventListener('abort', stop);
  });
  // Whoever started it may be busy with its output when it fails.
  ended.catch(() => undefined);
  return { stdin: child.stdin, stdout: child.stdout, ended, stop };
}

const NO_GIT = { hint: 'install git, or put it on the PATH' };

/** Runs git to its end. @returns what it has written to stdout */
export async function runGit(
  args: readonly string[],
  { input = '', ...options }: GitOptions & { input?: string | Uint8Array },
): Promise<Buffer> {
  const git = startGit(args, options);
  git.stdin.end(input);
  const pieces: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const piece of git.stdout as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > MAX_ANSWER)
        throw new LazytreeError('UNSUPPORTED', `git says too much about ${options.where}`);
      pieces.push(piece);
    }
  } catch (error) {
    git.stop();
    await git.ended;
    throw error;
  }
  await git.ended;
  return Buffer.concat(pieces);
}
