import { LazytreeError } from '@lazytree/core/errors';
import type { Home } from '@lazytree/node';
import { credentialEnv } from '@lazytree/node/daemon-client';
import type { Origins } from '@lazytree/node/origins';
import type { Remotes } from '@lazytree/node/remotes';
import type { Caller } from './caller.js';
import type { Context } from './command.js';
import type { Homes } from './homes.js';
import { oneLine } from './one-line.js';

export interface ContextOptions {
  json: boolean;
  offline: boolean;
  caller: Caller;
  homes: Homes;
}

export function createContext({
  json,
  offline,
  caller,
  homes,
}: ContextOptions): Context & { close(): Promise<void> } {
  const { terminal, signal } = caller;
  const releases = new Set<() => void>();
  let home: Promise<Home> | undefined;
  let remotes: Promise<Remotes | undefined> | undefined;
  let origins: Promise<Origins> | undefined;
  let closed: Promise<void> | undefined;

  function openHome({ create }: { create: boolean }): Promise<Home> {
    home ??= homes.open({ create }).catch((error) => {
      // What kept it from being opened may be repaired.
      home = undefined;
      throw error;
    });
    return home;
  }

  async function openOwnOrigins(): Promise<Origins> {
    const { directory, store } = await openHome({ create: true });
    const { createOrigins } = await import('@lazytree/node/origins');
    return createOrigins({ home: directory, store });
  }

  async function openOwnRemotes(): Promise<Remotes> {
    const { directory, store } = await openHome({ create: false });
    const [{ createCredentialMemory }, { openRemotes }] = await Promise.all([
      import('@lazytree/node/remotes'),
      import('@lazytree/node/open-remotes'),
    ]);
    const log = { info() {}, warn: told, error: told };
    const credentials = createCredentialMemory({});
    return openRemotes({
      home: directory,
      store,
      source: store,
      credentials,
      log,
      join: () => () => undefined,
    });
  }

  function told(fields: object, message: string): void {
    const { error } = fields as { error?: unknown };
    warn(error === undefined ? message : `${message}: ${error}`);
  }

  function warn(text: string): void {
    terminal.writeError(`lazytree: warning: ${oneLine(text)}\n`);
  }

  return {
    json,
    signal,
    isRead: terminal.isRead,
    home: openHome,
    host() {
      if (homes.host) return homes.host;
      throw new Error('an action that needs the daemon runs outside of it');
    },
    async network() {
      const { host } = homes;
      if (!host) return undefined;
      const cluster = host.isMember() ? await host.cluster() : undefined;
      const known = await host.remotes();
      for (const name of known?.list() ?? []) host.credentials.envFor(name, caller.env);
      return cluster || known ? { fetch: host.fetch, cluster, remotes: known } : undefined;
    },
    async origins() {
      if (homes.host) return homes.host.origins;
      origins ??= openOwnOrigins();
      return origins;
    },
    hasHost: homes.host !== undefined,
    originCaller: () => ({
      environment: offline ? { ...caller.env, LAZYTREE_OFFLINE: '1' } : caller.env,
      directory: caller.directory ?? '/',
    }),
    async remote(name) {
      const { refuseSecret } = await import('@lazytree/node/remotes');
      refuseSecret(name, 'the name of the remote');
      remotes ??= homes.host ? homes.host.remotes() : openOwnRemotes();
      const opened = await remotes;
      if (opened) return opened.open(name, credentialEnv(caller.env));
      throw new LazytreeError('NOT_FOUND', `there is no remote '${name}'`, {
        hint: 'add one: `lazytree remote add NAME URL`',
      });
    },
    remoteTraffic: async (name) => (await homes.host?.remotes())?.traffic(name),
    async remotesChanged(name) {
      homes.host?.credentials.forget(name);
      const known = await homes.host?.remotes();
      await known?.attach();
      void known?.prepare();
    },
    makeFiles: (task) => (homes.makeFiles ? homes.makeFiles(task) : task()),
    commands() {
      if (homes.commands) return homes.commands();
      throw new Error('a daemon does not become another');
    },
    survey: (statCache) => homes.ahead?.of(statCache),
    inTurn: (key, run) => (homes.turns ? homes.turns({ key, run, signal }) : run()),
    path: (text) => absolutePath(text, caller),
    async file(text) {
      const path = absolutePath(text, caller);
      await homes.host?.workspaces.refuseHidden(path);
      return path;
    },
    progress: (label) => terminal.progress(label),
    warn,
    afterwards(release) {
      releases.add(release);
      return () => {
        if (releases.delete(release)) release();
      };
    },
    close() {
      closed ??= closeAll();
      return closed;
    },
  };

  async function closeAll(): Promise<void> {
    for (const release of releases) release();
    releases.clear();
    if (!homes.host) await (await remotes?.catch(() => undefined))?.close();
    const opened = await home?.catch(() => undefined);
    if (homes.close) await opened?.close();
  }
}

/** Dots in the middle stay: what `..` leads to is up to the file system where links are. */
export function absolutePath(text: string, { directory }: Pick<Caller, 'directory'>): string {
  if (text.startsWith('/')) return text;
  if (text === '') throw new LazytreeError('NOT_FOUND', 'an empty path leads nowhere');
  if (directory === undefined) {
    throw new LazytreeError('NOT_FOUND', `'${text}': the current directory is gone`, {
      hint: 'change to another, or give the whole path',
    });
  }
  const below = text.replace(/^(?:\.\/+)+/, '').replace(/^\.$/, '');
  return below === '' ? directory : `${directory === '/' ? '' : directory}/${below}`;
}
