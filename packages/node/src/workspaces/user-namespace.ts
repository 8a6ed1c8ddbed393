import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { errnoOf, LazytreeError } from '@lazytree/core';
import { SystemCallError } from '../c-library.js';
import { readMountInfo } from '../fuse/device/mount-info.js';
import type { FromHolder, ToHolder } from './holder-messages.js';
import type { Holder, OverlayPlace, OverlayPlaceOptions } from './overlay-place.js';

/**
 * The user is mapped to itself, so that whoever enters stays who it is: npm, git and others do not take it for root.
 * What may be mounted is up to capabilities, and the holder keeps those that it has in its own namespace. Mounts that
 * are shared outside still come and go inside.
 */
const UNSHARE = ['--user', '--map-current-user', '--keep-caps', '--mount', '--propagation', 'slave', '--'];

type Request = ToHolder extends infer T ? (T extends unknown ? Omit<T, 'id'> : never) : never;

interface Running {
  child: ChildProcess;
  holder: Holder;
}

/**
 * Overlays of a user who may not mount, for whom the kernel has user namespaces (user_namespaces(7), since Linux 5.11
 * with overlayfs): one process holds a namespace in which they all are, from the first one on. It is not seen from
 * outside; `lazytree workspace exec` enters it.
 */
export function createUserNamespace({ onLost }: OverlayPlaceOptions): OverlayPlace {
  let running: Promise<Running> | undefined;
  let known: Holder | undefined;
  let nextId = 0;
  const waiting = new Map<number, PromiseWithResolvers<void>>();

  async function start(): Promise<Running> {
    const { child, holder } = await startHolder();
    child.on('message', (message: FromHolder) => {
      if (!('id' in message)) return;
      const { id, error } = message;
      const waiter = waiting.get(id);
      waiting.delete(id);
      if (error) waiter?.reject(new SystemCallError(error.syscall, error.errno));
      else waiter?.resolve();
    });
    child.once('exit', () => {
      running = undefined;
      known = undefined;
      const error = new LazytreeError('FAILED', 'the process that holds the workspaces has ended');
      for (const waiter of waiting.values()) waiter.reject(error);
      waiting.clear();
      onLost();
    });
    known = holder;
    return { child, holder };
  }

  async function ask({ child }: Running, request: Request): Promise<void> {
    const id = nextId++;
    const waiter = Promise.withResolvers<void>();
    waiting.set(id, waiter);
    child.send({ ...request, id });
    await waiter.promise;
  }

  return {
    // Those of `trusted` are for who is root outside of every namespace.
    marks: 'user',
    async mount(call) {
      running ??= start().catch((error) => {
        running = undefined;
        throw error;
      });
      await ask(await running, { mount: call });
    },
    async unmount(target, { lazy }) {
      // With its holder, the namespace has gone.
      if (running) await ask(await running, { unmount: { target, lazy } });
    },
    mounts: async () => (known ? readMountInfo(known.pid) : []),
    holder: () => known,
    async close() {
      const { child } = (await running) ?? {};
      if (!child) return;
      child.removeAllListeners('exit');
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.disconnect();
      await ended;
    },
  };
}

async function startHolder(): Promise<Running> {
  const program = fileURLToPath(new URL('./holder-process.js', import.meta.url));
  // A session of its own: what ends the daemon by the terminal must not end it before.
  const child = spawn('unshare', [...UNSHARE, process.execPath, program], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let text = '';
  (child.stderr as Readable).on('data', (part) => {
    text += part;
  });
  const ready = Promise.withResolvers<string>();
  child.on('error', ready.reject);
  child.once('message', (message: FromHolder) => 'namespace' in message && ready.resolve(message.namespace));
  child.once('close', () => ready.reject(new Error(text.split('\n')[0] || 'it ended')));
  try {
    const namespace = await ready.promise;
    return { child, holder: { pid: child.pid as number, namespace } };
  } catch (error) {
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
