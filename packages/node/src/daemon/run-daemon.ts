import { setTimeout as sleep } from 'node:timers/promises';
import { LazytreeError } from '@lazytree/core';
import { daemonStatus } from './control-client.js';
import { createControlServer } from './control-server.js';
import { type Host, openHost } from './host.js';
import { type HomeSocket, listenInHome } from './listen.js';
import type { Log } from './log.js';
import type { ExecuteCommand } from './protocol.js';
import { keepYoungGenerationSmall } from './young-generation.js';

/** Enough for a service manager, or somebody who sees it, to start another one. */
const KEEP_MS = 30_000;
/** Time that commands have to end by themselves, and then to end once they are cancelled. */
const FINISH_MS = 30_000;
const CANCEL_MS = 10_000;
/** After so long without anything to do, a daemon that was started for a command ends. */
const IDLE_MS = 2000;
/** How often it looks whether its home is still there. */
const LOOK_MS = 10_000;

export interface RunDaemonOptions {
  home: string;
  version: string;
  log: Log;
  /** How long mounts wait for another daemon when this one is killed, in ms; 0 for not at all. */
  keepMs?: number;
  /** Runs commands on the host. */
  execute(host: Host): ExecuteCommand;
  /** Where peers find this machine, and where it looks for them, as multiaddrs. */
  listen?: readonly string[] | undefined;
  peers?: readonly string[] | undefined;
  /** Whether it stays when it has nothing to do. */
  stays: boolean;
  /** When it resolves, nobody is about to come with what the daemon was started for. */
  awaited?: Promise<void> | undefined;
  onReady(host: Host): void;
}

/**
 * Is the home's daemon until it is told to end: by a signal, through its socket, or by having nothing to do.
 * Resolves when the home is closed.
 *
 * @throws LazytreeError LOCKED (with the holder's pid) when another process has the store
 */
export async function runDaemon(options: RunDaemonOptions): Promise<void> {
  const { home, version, log, keepMs = KEEP_MS } = options;
  keepYoungGenerationSmall();
  let { stays } = options;
  let awaited = options.awaited !== undefined;
  const host = await openHost({
    home,
    log,
    keepMs,
    version,
    listen: options.listen,
    peers: options.peers,
  }).catch(async (error) => {
    throw (await runningAlready(home, error)) ?? error;
  });
  const execute = options.execute(host);
  const ending = Promise.withResolvers<string>();
  let crash: unknown;
  let refreshed: Promise<void> = Promise.resolve();
  let idle: NodeJS.Timeout | undefined;
  let closing = false;
  let since = performance.now();
  const server = createControlServer({
    version,
    async execute(request, output) {
      await refreshed;
      return execute(request, output);
    },
    log,
    status: () => ({
      pid: process.pid,
      version,
      home,
      uptime: (performance.now() - since) / 1000,
      stays,
      busy: host.busy(),
    }),
    onStop: () => ending.resolve('asked to'),
    onStay() {
      stays = true;
    },
    onIdle() {
      watchIdleness();
      refreshed = refreshed.then(host.refresh).catch((err) => {
        log.error({ err }, 'the store cannot be opened again');
        ending.resolve('the store cannot be opened');
      });
    },
  });

  function watchIdleness(): void {
    clearTimeout(idle);
    if (closing) return;
    idle = setTimeout(() => {
      if (stays || awaited || host.busy() || server.running() > 0) watchIdleness();
      else ending.resolve('nothing to do');
    }, IDLE_MS);
  }

  const signals = listenToSignals((signal) => {
    ending.resolve(signal);
    // Asked again, it does not wait.
    if (closing) server.cancelAll();
  });
  const guards = guard({
    onRejection: (err) => log.error({ err }, 'a promise failed that nobody waited for'),
    onException(err) {
      log.error({ err }, 'an exception that nobody caught');
      crash = err;
      ending.resolve('a failure');
    },
  });
  let socket: HomeSocket;
  try {
    socket = await listenInHome(server.http, home);
  } catch (error) {
    signals.stop();
    guards.stop();
    await host.close();
    throw error;
  }
  const look = setInterval(() => {
    if (!socket.isThere()) ending.resolve('its socket is gone, and so nobody can ask it');
  }, LOOK_MS);
  since = performance.now();
  watchIdleness();
  void options.awaited?.then(() => {
    awaited = false;
    watchIdleness();
  });
  log.info({ version, home, node: process.version, stays }, 'ready');
  options.onReady(host);
  server.prepare();

  const reason = await ending.promise;
  closing = true;
  clearTimeout(idle);
  server.refuse();
  log.info({ reason, commands: server.running() }, 'ending');
  if (crash === undefined) await within(FINISH_MS, server.settled());
  server.cancelAll();
  await within(CANCEL_MS, server.settled());
  // Whatever may still be under way: nothing is left that it could do.
  setTimeout(() => process.exit(crash === undefined ? 0 : 1), CANCEL_MS).unref();
  try {
    await refreshed;
    await host.close();
  } finally {
    // Until here commands find the socket, learn that the daemon is ending, and wait. Then the store is free.
    clearInterval(look);
    socket.remove();
    server.http.close();
    server.http.closeAllConnections();
    signals.stop();
    guards.stop();
    log.info('ended');
  }
  if (crash !== undefined) throw crash;
}

function within(ms: number, event: Promise<void>): Promise<void> {
  return Promise.race([event, sleep(ms, undefined, { ref: false })]);
}

interface Guards {
  onRejection(error: unknown): void;
  onException(error: unknown): void;
}

/**
 * A promise that fails unseen costs what waited for it, and no more: what is on disk is sound at any moment. After an
 * exception out of nowhere nobody knows what was left half done in memory: the process ends, in order.
 */
function guard({ onRejection, onException }: Guards): { stop(): void } {
  process.on('unhandledRejection', onRejection);
  process.on('uncaughtException', onException);
  return {
    stop() {
      process.off('unhandledRejection', onRejection);
      process.off('uncaughtException', onException);
    },
  };
}

async function runningAlready(home: string, error: unknown): Promise<LazytreeError | undefined> {
  if ((error as LazytreeError).code !== 'LOCKED') return undefined;
  const status = await daemonStatus(home).catch(() => undefined);
  if (!status) return undefined;
  return new LazytreeError('LOCKED', `the daemon of ${home} is running already: process ${status.pid}`, {
    hint: '`lazytree daemon stop` ends it',
  });
}

function listenToSignals(onSignal: (name: string) => void): { stop(): void } {
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of names) process.on(name, onSignal);
  return {
    stop() {
      for (const name of names) process.off(name, onSignal);
    },
  };
}
