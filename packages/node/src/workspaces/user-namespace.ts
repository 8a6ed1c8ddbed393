import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { errnoOf, LazytreeError } from '@lazytree/core';
import { SystemCallError } from '../c-library.js';
import { socketPair } from '../descriptor-socket.js';
import { readMountInfo } from '../fuse/device/mount-info.js';
import type { Keeper } from '../keeper/keeper.js';
import type { FromHolder, ToHolder, Wish } from './holder-messages.js';
import { openLineChannel } from './line-channel.js';
import type { Holder, OverlayPlace, OverlayPlaceOptions } from './overlay-place.js';

/**
 * The user is mapped to itself, so that whoever enters stays who it is: npm, git and others do not take it for root.
 * What may be mounted is up to capabilities, and the holder keeps those that it has in its own namespace. Mounts that
 * are shared outside still come and go inside.
 */
const UNSHARE = ['--user', '--map-current-user', '--keep-caps', '--mount', '--propagation', 'slave', '--'];

interface Running {
  holder: Holder;
  ask(wish: Wish): Promise<FromHolder>;
  /** Ends it, and resolves when it has gone. */
  end(): Promise<void>;
}

/** For one that has been there before. A new one may be slow to begin. */
const ANSWER_MS = 5000;

/**
 * Overlays of a user who may not mount, for whom the kernel has user namespaces (user_namespaces(7), since Linux 5.11
 * with overlayfs): one process holds a namespace in which they all are, from the first one on. It is not seen from
 * outside; `lazytree workspace exec` enters it. The process outlives a daemon that is killed if its channel is kept.
 */
export async function createUserNamespace({ onLost, keeper }: OverlayPlaceOptions): Promise<OverlayPlace> {
  let running: Promise<Running> | undefined;
  let known: Holder | undefined;

  function use(found: Running): Running {
    known = found.holder;
    return found;
  }

  function lose(): void {
    running = undefined;
    known = undefined;
    onLost();
  }

  async function end(): Promise<void> {
    const ended = await running;
    running = undefined;
    known = undefined;
    await ended?.end();
  }

  const found = await findHolder(keeper, lose);
  if (found) running = Promise.resolve(use(found));

  return {
    // Those of `trusted` are for who is root outside of every namespace.
    marks: 'user',
    outlived: found !== undefined,
    async mount(call) {
      running ??= startHolder(keeper, lose).then(use, (error) => {
        running = undefined;
        throw error;
      });
      await (await running).ask({ mount: call });
    },
    async unmount(target, { lazy }) {
      // With its holder, the namespace has gone.
      if (running) await (await running).ask({ unmount: { target, lazy } });
    },
    mounts: async () => (known ? readMountInfo(known.pid) : []),
    holder: () => known,
    // The namespace has copies of the mounts that there were when it was made, and may get no new ones.
    renew: end,
    close: end,
  };
}

interface Connected {
  ask(wish: Wish): Promise<FromHolder>;
  end(): Promise<void>;
  ended: Promise<void>;
}

/** @param onEnded told that it has ended though nobody here wanted it */
function connectTo(channel: number, onEnded: () => void): Connected {
  const waiting = new Map<string, PromiseWithResolvers<FromHolder>>();
  const ended = Promise.withResolvers<void>();
  let wanted = true;
  const { send, end } = openLineChannel(channel, {
    onMessage(message) {
      const answer = message as FromHolder;
      // Those to requests of another daemon have nobody who waits for them.
      waiting.get(answer.id)?.resolve(answer);
      waiting.delete(answer.id);
    },
    onClose() {
      const error = new LazytreeError('FAILED', 'the process that holds the workspaces has ended');
      for (const waiter of waiting.values()) waiter.reject(error);
      waiting.clear();
      ended.resolve();
      if (wanted) onEnded();
    },
  });
  return {
    ended: ended.promise,
    async ask(wish) {
      const id = randomUUID();
      const waiter = Promise.withResolvers<FromHolder>();
      waiting.set(id, waiter);
      send({ id, ...wish } satisfies ToHolder);
      const answer = await waiter.promise;
      if (answer.error) throw new SystemCallError(answer.error.syscall, answer.error.errno);
      return answer;
    },
    async end() {
      wanted = false;
      end();
      await ended.promise;
    },
  };
}

interface About {
  holder: Holder;
}

/** The one that an earlier daemon has had, if it is still there. */
async function findHolder(keeper: Keeper, onEnded: () => void): Promise<Running | undefined> {
  const found = keeper.claim((about) => 'holder' in about);
  if (!found) return undefined;
  const { holder } = found.about as About;
  let adopted = false;
  const connected = connectTo(found.descriptors[0], () => adopted && onEnded());
  void connected.ended.then(found.drop);
  const late = sleep(ANSWER_MS, undefined, { ref: false });
  const answer = await Promise.race([connected.ask({ who: true }).catch(() => undefined), late]);
  adopted = answer?.namespace === holder.namespace;
  if (adopted) return { ...connected, holder };
  void connected.end();
  return undefined;
}

async function startHolder(keeper: Keeper, onEnded: () => void): Promise<Running> {
  const program = fileURLToPath(new URL('./holder-process.js', import.meta.url));
  const [ours, theirs] = socketPair();
  // A session of its own: what ends the daemon by the terminal must not end it before.
  const child = spawn('unshare', [...UNSHARE, process.execPath, program], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', theirs],
  });
  fs.closeSync(theirs);
  let text = '';
  (child.stderr as Readable).on('data', (part) => {
    text += part;
  });
  const failed = new Promise<never>((_, reject) => {
    child.on('error', reject);
    child.once('close', () => reject(new Error(text.split('\n')[0] || 'it ended')));
  });
  failed.catch(() => undefined);
  let ready = false;
  const connected = connectTo(ours, () => ready && onEnded());
  try {
    const asked = connected.ask({ who: true });
    // Why it has ended says more than that it has.
    const { namespace } = await Promise.race([asked.catch(() => failed), failed]);
    ready = true;
    const holder = { pid: child.pid as number, namespace: namespace as string };
    const kept = keeper.keep({ holder } satisfies About, [ours]);
    void connected.ended.then(kept.drop);
    return { ...connected, holder };
  } catch (error) {
    void connected.end();
    throw await explain(error);
  }
}

async function explain(error: unknown): Promise<LazytreeError> {
  if (errnoOf(error) === 'ENOENT') {
    return new LazytreeError('UNSUPPORTED', 'a workspace without root needs unshare, which is not here', {
      cause: error,
      hint: 'install the package util-linux, or use `lazytree export`',
    });
  }
  return new LazytreeError(
    'UNSUPPORTED',
    `a workspace without root needs a user namespace, and there is none: ${(error as Error).message}`,
    { cause: error, hint: `${await howToAllow()}, or use \`lazytree export\`` },
  );
}

/** Settings that forbid user namespaces, and the value with which they do. */
const FORBIDDING: [setting: string, forbids: string, allows: string][] = [
  ['user.max_user_namespaces', '0', '10000'],
  ['kernel.unprivileged_userns_clone', '0', '1'],
  ['kernel.apparmor_restrict_unprivileged_userns', '1', '0'],
];

export async function howToAllow(): Promise<string> {
  for (const [setting, forbids, allows] of FORBIDDING) {
    const file = `/proc/sys/${setting.replaceAll('.', '/')}`;
    const value = await readFile(file, 'utf8').catch(() => '');
    if (value.trim() === forbids) return `allow them with \`sysctl ${setting}=${allows}\` as root`;
  }
  return 'a container has to allow them, and unshare has to be of util-linux 2.34 or newer';
}
