import fs from 'node:fs';
import { acceptConnection, limitSending, receiveMessage, sendMessage } from '../descriptor-socket.js';
import { waitForAny } from '../poll.js';
import { type FromKeeper, LISTENER, STARTER, type ToKeeper } from './keeper-messages.js';

/**
 * Keeps descriptors open for a daemon that may be killed, and gives them to the next: `keeper-process SOCKET
 * MILLISECONDS`. If none comes within that time after the end of the last, it lets go of them and ends, and so it does
 * when a daemon says so. It does nothing else, and knows nothing of what it keeps. See docs/daemon.md.
 */

/** Of a daemon that has called, to take what it has called for. */
const SENDING_MS = 5000;

const [socketFile, milliseconds] = process.argv.slice(2);
const patience = Number(milliseconds);
const kept = new Map<string, { about: unknown; descriptors: number[] }>();
let daemon: number | undefined = STARTER;
let aloneSince = 0;

// What ends the session of the daemon's starter is to end the daemon at the most.
for (const signal of ['SIGHUP', 'SIGINT', 'SIGPIPE'] as const) process.on(signal, () => undefined);
while (daemon !== undefined || (kept.size > 0 && patienceLeft() > 0)) {
  const [called, spoken] = waitForAny(
    daemon === undefined ? [LISTENER] : [LISTENER, daemon],
    daemon === undefined ? patienceLeft() : -1,
  );
  // Of an earlier daemon there may be messages still: its last ones.
  if (spoken) hear(daemon as number);
  else if (called) welcome(acceptConnection(LISTENER));
}
letGo();

function patienceLeft(): number {
  return Math.max(0, Math.ceil(aloneSince + patience - performance.now()));
}

function hear(from: number): void {
  const message = receiveMessage(from);
  if (!message) {
    leave();
    return;
  }
  const wish = JSON.parse(message.bytes.toString()) as ToKeeper;
  if ('end' in wish) letGo();
  else if ('keep' in wish) kept.set(wish.keep, { about: wish.about, descriptors: message.descriptors });
  else drop(wish.drop);
}

function drop(key: string): void {
  for (const descriptor of kept.get(key)?.descriptors ?? []) fs.closeSync(descriptor);
  kept.delete(key);
}

/** The one who had called before has gone: a home has one daemon at a time. */
function welcome(newcomer: number): void {
  if (daemon !== undefined) fs.closeSync(daemon);
  daemon = newcomer;
  try {
    limitSending(newcomer, SENDING_MS);
    for (const [key, { about, descriptors }] of kept) tell(newcomer, { kept: key, about }, descriptors);
    tell(newcomer, { all: true });
  } catch {
    // It has ended, or does not listen. Perhaps the next one does.
    leave();
  }
}

function tell(to: number, message: FromKeeper, descriptors: number[] = []): void {
  sendMessage(to, { bytes: Buffer.from(JSON.stringify(message)), descriptors }, { wait: true });
}

function leave(): void {
  if (daemon !== undefined) fs.closeSync(daemon);
  daemon = undefined;
  aloneSince = performance.now();
}

function letGo(): never {
  // Whoever finds no socket starts another keeper, and whoever finds one is to be heard.
  if (daemon === undefined) fs.rmSync(socketFile, { force: true });
  process.exit();
}
