import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { Socket } from 'node:net';
import { type ErrorCode, errnoOf, fromSystemError, LazytreeError } from '@lazytree/core/errors';
import { daemonLog } from '../home-directory.js';
import { daemonStatus } from './control-client.js';
import type { DaemonStatus } from './protocol.js';
import { storeHolder } from './store-holder.js';

/**
 * The descriptor on which a new daemon says that it is ready, or why not. The process that started it has the other end
 * until it ends itself: till then, the daemon has something to wait for.
 */
const READY_FD = 3;
/** Tells a new daemon that somebody listens on that descriptor, and what it was started for. */
const STARTED_FOR = 'LAZYTREE_DAEMON_STARTED_FOR';
const LOOK_MS = 25;
/** For the socket of whoever has the store: a daemon that another command is just starting, on a machine with much to do. */
const DAEMON_MS = 30_000;
/** And of what does not look like a daemon. */
const OTHER_MS = 3000;

export interface StartDaemonOptions {
  home: string;
  /** Runs `lazytree daemon run`. */
  command: readonly [program: string, ...args: string[]];
  /** `command`: it ends by itself when it has nothing more to do. `user`: it stays. */
  startedFor: 'command' | 'user';
}

type Readiness = { ready: true } | { error: { code: ErrorCode; message: string; hint?: string } };

/** A process that is about to be a daemon, and touches nothing of its home before it is told to. */
export interface DaemonAhead {
  /** Has it go on, and resolves when it is ready or cannot be. */
  go(): Promise<Readiness>;
  /** Ends it, unless it has been told to go on. */
  stop(): void;
}

/**
 * Starts the home's daemon in the background and waits till it is ready.
 *
 * @returns what it is, be it one that was there or that another command has started meanwhile
 * @throws LazytreeError what the daemon says about why it cannot start
 */
export async function startDaemon(options: StartDaemonOptions): Promise<DaemonStatus & { started: boolean }> {
  const { home } = options;
  const running = await daemonStatus(home);
  if (running) return { ...running, started: false };
  const readiness = await prepareDaemon(options).go();
  return { ...(await findDaemon(home, readiness)), started: 'ready' in readiness };
}

/**
 * Has the home a daemon, as {@link startDaemon} does, for one who is about to ask it: to ask it what it is would take as
 * long again.
 *
 * @param ahead one that is under way since before it was known to be needed
 */
export async function ensureDaemon(
  options: StartDaemonOptions,
  ahead: DaemonAhead | undefined,
): Promise<void> {
  if (!ahead && (await daemonStatus(options.home))) return;
  const readiness = await (ahead ?? prepareDaemon(options)).go();
  if (!('ready' in readiness)) await findDaemon(options.home, readiness);
}

async function findDaemon(home: string, readiness: Readiness): Promise<DaemonStatus> {
  const began = performance.now();
  const patience = () => (holdsAsDaemon(home) ? DAEMON_MS : OTHER_MS);
  do {
    const status = await daemonStatus(home);
    if (status) return status;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  } while (isTaken(readiness) && performance.now() - began < patience());
  if ('ready' in readiness) throw new LazytreeError('FAILED', 'the daemon ended as soon as it was ready');
  const { code, message, hint } = readiness.error;
  throw new LazytreeError(code, message, hint ? { hint } : {});
}

function isTaken(readiness: Readiness): boolean {
  return 'error' in readiness && readiness.error.code === 'LOCKED';
}

function holdsAsDaemon(home: string): boolean {
  try {
    const command = fs.readFileSync(`/proc/${storeHolder(home)}/cmdline`, 'utf8');
    return command.includes('\0daemon\0run\0');
  } catch {
    return false;
  }
}

/** Starts a daemon's process, which takes most of its time before it has to know whether it is wanted. */
export function prepareDaemon({ home, command, startedFor }: StartDaemonOptions): DaemonAhead {
  const log = daemonLog(home);
  let fd: number;
  try {
    fs.mkdirSync(home, { recursive: true });
    fd = fs.openSync(log, 'a', 0o600);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST')
      throw new LazytreeError('NOT_FOUND', `the home ${home} is not a directory`);
    throw fromSystemError(error, `starting the daemon of ${home}`);
  }
  const [program, ...args] = command;
  // A new session, and a directory that no file system goes away with.
  const child = spawn(program, args, {
    cwd: '/',
    detached: true,
    env: { ...process.env, LAZYTREE_HOME: home, [STARTED_FOR]: startedFor },
    stdio: ['ignore', fd, fd, 'pipe'],
  });
  fs.closeSync(fd);
  const failed = new Promise<never>((_, reject) => {
    child.once('error', (error) => reject(fromSystemError(error, `starting the daemon of ${home}`)));
  });
  failed.catch(() => undefined);
  const pipe = child.stdio[READY_FD] as Socket;
  // One that has ended is told nothing; that it has ended is read.
  pipe.on('error', () => undefined);
  let wanted = false;
  return {
    async go() {
      wanted = true;
      pipe.write('go\n');
      const readiness = await Promise.race([readReadiness(pipe, log), failed]);
      pipe.unref();
      child.unref();
      return readiness;
    },
    stop() {
      if (wanted) return;
      child.kill('SIGKILL');
      child.unref();
      pipe.destroy();
    },
  };
}

async function readReadiness(pipe: Socket, log: string): Promise<Readiness> {
  let text = '';
  for await (const part of pipe.iterator({ destroyOnReturn: false })) {
    text += part;
    if (text.endsWith('\n')) return JSON.parse(text);
  }
  return { error: { code: 'FAILED', message: `the daemon ended before it was ready: see ${log}` } };
}

/** What this process, a new daemon, was started for; and where it says whether it is ready. */
export interface Launched {
  startedFor: 'command' | 'user';
  /** Resolves when it is known whether it is to be one: it is not when whoever started it has found that out. */
  wanted: Promise<boolean>;
  tell(readiness: Readiness): void;
  /** Resolves when the process that started this one has ended. */
  left: Promise<void>;
}

/** @returns undefined in a process that was not started by {@link prepareDaemon} */
export function launchedFor(): Launched | undefined {
  const startedFor = process.env[STARTED_FOR];
  delete process.env[STARTED_FOR];
  if (startedFor !== 'command' && startedFor !== 'user') return undefined;
  const starter = new Socket({ fd: READY_FD });
  // Whoever started it may have gone, which changes nothing.
  starter.on('error', () => undefined);
  const left = new Promise<void>((resolve) => starter.once('close', () => resolve()));
  const wanted = new Promise<boolean>((resolve) => {
    starter.once('data', () => resolve(true));
    void left.then(() => resolve(false));
  });
  void wanted.then(() => starter.unref());
  return {
    startedFor,
    wanted,
    tell: (readiness) => void starter.write(`${JSON.stringify(readiness)}\n`),
    left,
  };
}
