import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { errnoOf } from '@lazytree/core';
import { socketAddress } from '../daemon/socket-address.js';
import {
  connectForMessages,
  listenForMessages,
  type Message,
  messageSocketPair,
  peerUser,
  receiveMessage,
  sendMessage,
} from '../descriptor-socket.js';
import { KEEPER_SOCKET, keeperSocket } from '../home-directory.js';
import { waitForAny } from '../poll.js';
import type { FromKeeper, ToKeeper } from './keeper-messages.js';

/**
 * Descriptors that outlive this process, in another one which is started for that (keeper-process.ts) and which the
 * next daemon of the home finds. Whatever goes wrong with it costs nothing but that.
 */
export interface Keeper {
  /** Keeps descriptors open, which stay open here as well, and what the next daemon is to be told of them. */
  keep(about: object, descriptors: number[]): Kept;
  /** What an earlier daemon has left, if `isMeant` says yes to what that daemon said of it; each is given out once. */
  claim(isMeant: (about: object) => boolean): Inherited | undefined;
  /** Says that nobody will claim anything any more: what is left is let go of. */
  settle(): void;
  /** Says that nothing has to be kept any more. */
  close(): void;
}

export interface Kept {
  /** To be called when they are closed here, and before the numbers can be anything else's. */
  drop(): void;
}

interface Inherited extends Kept {
  about: object;
  /** Owned by whoever has claimed them. They are kept as they were. */
  descriptors: number[];
}

export interface KeeperOptions {
  home: string;
  /** What one version keeps, another one does not understand. */
  version: string;
  /** How long descriptors are kept for a daemon that does not come; 0: not at all. */
  milliseconds: number;
  log: { warn(fields: object, message: string): void };
}

/** Nobody waits for the process to be started, and what is mounted first is to be there first. */
const START_AFTER_MS = 100;
/** How often it is looked after, and how long one has to have lived for another to be started in its place. */
const LOOK_MS = 2000;
const LIVED_MS = 10_000;
const AGAIN_MS = 20;
/** An earlier daemon's keeper has nothing else to do than to answer, once it has been started. */
const ANSWER_MS = 5000;

/** What is kept has a name that no other daemon of the home has given. */
let keys = 0;

export function openKeeper({ home, version, milliseconds, log }: KeeperOptions): Keeper {
  const socketFile = keeperSocket(home);
  const kept = new Map<string, { about: object; descriptors: number[] }>();
  const inherited = new Map<string, Inherited>();
  let socket: number | undefined;
  let outbox: (Message & { key: string })[] = [];
  let starting: NodeJS.Timeout | undefined;
  let flushing: NodeJS.Timeout | undefined;
  let looking: NodeJS.Timeout | undefined;
  let started = 0;
  let open = milliseconds > 0;

  if (fs.existsSync(socketFile)) inherit();

  /** Takes over from an earlier daemon what it has had kept. */
  function inherit(): void {
    let connection: number | undefined;
    try {
      connection = callAt(home);
      if (peerUser(connection) !== process.geteuid?.()) throw new Error('it is somebody else’s');
      for (let done = false; !done; ) {
        if (!waitForAny([connection], ANSWER_MS)[0]) throw new Error('it does not answer');
        const message = receiveMessage(connection);
        if (!message) throw new Error('it ended');
        const { descriptors } = message;
        const told = JSON.parse(message.bytes.toString()) as FromKeeper;
        done = 'all' in told;
        if ('kept' in told) receive(told.kept, told.about as About, descriptors);
      }
      attend(connection);
    } catch (error) {
      if (connection !== undefined) fs.closeSync(connection);
      // Nobody listens on a socket that was left when everything was killed.
      if (errnoOf(error) !== 'ECONNREFUSED') {
        log.warn({ error: (error as Error).message }, 'what the daemon before has left cannot be had');
      }
      for (const { descriptors } of inherited.values()) for (const one of descriptors) fs.closeSync(one);
      inherited.clear();
      kept.clear();
      fs.rmSync(socketFile, { force: true });
    }
  }

  function receive(key: string, about: About, descriptors: number[]): void {
    const drop = () => dropKey(key);
    kept.set(key, { about: about.about, descriptors });
    const isOurs = open && about.version === version;
    inherited.set(key, { about: isOurs ? about.about : {}, descriptors, drop });
  }

  function attend(connection: number): void {
    socket = connection;
    started = performance.now();
    looking ??= setInterval(look, LOOK_MS).unref();
    flush();
  }

  function start(): void {
    starting = undefined;
    if (!open || kept.size === 0) return;
    let draft: string | undefined;
    try {
      draft = fs.mkdtempSync(join(home, '.keeper-'));
      const listener = listenIn(draft);
      const [ours, theirs] = messageSocketPair();
      const program = fileURLToPath(new URL('./keeper-process.js', import.meta.url));
      // A session of its own, and nothing of this process: it is to be there when this one and its group are killed.
      const child = spawn(process.execPath, [program, socketFile, String(milliseconds)], {
        cwd: '/',
        detached: true,
        env: {},
        stdio: ['ignore', 'ignore', 'ignore', listener, theirs],
      });
      child.on('error', (error) => log.warn({ error: error.message }, 'the keeper cannot be started'));
      child.unref();
      fs.closeSync(listener);
      fs.closeSync(theirs);
      outbox = [];
      for (const [key, { about, descriptors }] of kept)
        post(key, { keep: key, about: { version, about } }, descriptors);
      attend(ours);
      // Whoever finds it finds all that is kept.
      fs.renameSync(join(draft, KEEPER_SOCKET), socketFile);
    } catch (error) {
      log.warn({ error: (error as Error).message }, 'the keeper cannot be started');
    } finally {
      if (draft !== undefined) fs.rmSync(draft, { recursive: true, force: true });
    }
  }

  function look(): void {
    // It says nothing but at the beginning.
    if (socket !== undefined && waitForAny([socket], 0)[0]) lose();
  }

  /** Its process has ended: another one gets everything. */
  function lose(): void {
    if (socket === undefined) return;
    disconnect(socket);
    const again = performance.now() - started > LIVED_MS;
    log.warn({ again }, 'the process that keeps what the next daemon needs has ended');
    if (again) start();
    else open = false;
  }

  /** What cannot be sent now would not be sent to another one either. */
  function giveUp(error: Error): void {
    log.warn({ error: error.message }, 'nothing is kept for the next daemon');
    if (socket !== undefined) disconnect(socket);
    open = false;
  }

  function disconnect(connection: number): void {
    fs.rmSync(socketFile, { force: true });
    fs.closeSync(connection);
    socket = undefined;
    outbox = [];
  }

  function post(key: string, message: ToKeeper, descriptors: number[] = []): void {
    outbox.push({ key, bytes: Buffer.from(JSON.stringify(message)), descriptors });
  }

  function flush(): void {
    clearTimeout(flushing);
    while (socket !== undefined && outbox.length > 0) {
      try {
        sendMessage(socket, outbox[0], { wait: false });
        outbox.shift();
      } catch (error) {
        const code = errnoOf(error);
        if (code === 'EAGAIN') flushing = setTimeout(flush, AGAIN_MS).unref();
        else if (code === 'EPIPE' || code === 'ECONNRESET') lose();
        else giveUp(error as Error);
        return;
      }
    }
  }

  function dropKey(key: string): void {
    if (!kept.delete(key)) return;
    inherited.delete(key);
    outbox = outbox.filter((message) => message.key !== key);
    if (socket === undefined) return;
    post(key, { drop: key });
    flush();
  }

  return {
    keep(about, descriptors) {
      const key = `${process.pid}-${Date.now()}-${keys++}`;
      if (open) {
        kept.set(key, { about, descriptors });
        if (socket === undefined) starting ??= setTimeout(start, START_AFTER_MS).unref();
        else {
          post(key, { keep: key, about: { version, about } }, descriptors);
          flush();
        }
      }
      return { drop: () => dropKey(key) };
    },
    claim(isMeant) {
      for (const [key, candidate] of inherited) {
        if (!isMeant(candidate.about)) continue;
        inherited.delete(key);
        return candidate;
      }
      return undefined;
    },
    settle() {
      for (const { descriptors, drop } of [...inherited.values()]) {
        for (const descriptor of descriptors) fs.closeSync(descriptor);
        drop();
      }
    },
    close() {
      open = false;
      for (const timer of [starting, flushing, looking]) clearTimeout(timer);
      if (socket === undefined) return;
      outbox = [];
      post('', { end: true });
      flush();
      if (socket !== undefined) disconnect(socket);
    },
  };
}

/** What the keeper keeps beside the descriptors. */
interface About {
  version: string;
  about: object;
}

function callAt(home: string): number {
  const { path, release } = socketAddress(home, KEEPER_SOCKET);
  try {
    return connectForMessages(path);
  } finally {
    release();
  }
}

function listenIn(directory: string): number {
  const { path, release } = socketAddress(directory, KEEPER_SOCKET);
  try {
    const listener = listenForMessages(path);
    fs.chmodSync(join(directory, KEEPER_SOCKET), 0o600);
    return listener;
  } finally {
    release();
  }
}
