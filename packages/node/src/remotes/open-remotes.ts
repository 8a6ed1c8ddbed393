import { join } from 'node:path';
import { LazytreeError } from '@lazytree/core';
import type { Provider } from '../fetch/provider.js';
import { accessOrders } from '../prefetch/access-order.js';
import type { CredentialEnv } from './credential-variables.js';
import { openStorage, prepareStorage } from './open-storage.js';
import { openRemote, type Remote } from './remote.js';
import { REMOTE_BATCH } from './remote-provider.js';
import type { RemoteParts, Remotes } from './remotes.js';
import { findRemote, listRemotes, type RemoteConfig } from './remotes-file.js';

/** One that has been opened, and with what. */
interface OpenedRemote {
  key: string;
  remote: Promise<Remote>;
}

/** What is kept on this machine of what is in a remote. */
export function remoteDirectory(home: string, name: string): string {
  return join(home, 'remotes', name);
}

/** The remotes of a home. Each is opened when it is first used, and again when what opens it has changed. */
export async function openRemotes(parts: RemoteParts): Promise<Remotes> {
  const { home, store, source, credentials, log, orders = accessOrders(home) } = parts;
  const opened = new Map<string, OpenedRemote>();
  const joined = new Map<string, () => void>();
  let configs = await listRemotes(home);

  async function open(name: string, given?: CredentialEnv): Promise<Remote> {
    const config = await findRemote(home, name);
    const env = credentials.envFor(name, given);
    const key = JSON.stringify([config, env]);
    const known = opened.get(name);
    if (known?.key === key) return known.remote;
    const remote = openWith(config, env);
    opened.set(name, { key, remote });
    remote.catch(() => {
      if (opened.get(name)?.remote === remote) opened.delete(name);
    });
    if (known) await shut(known);
    return remote;
  }

  async function openWith(config: RemoteConfig, env: CredentialEnv): Promise<Remote> {
    const { name } = config;
    const storage = await openStorage(config, { env });
    const directory = remoteDirectory(home, name);
    return openRemote({ name, storage, store, source, directory, orders, log });
  }

  async function shut({ remote }: OpenedRemote): Promise<void> {
    // One that could not be opened need not be closed.
    await (await remote.catch(() => undefined))?.close();
  }

  /** It, whatever it has been opened with; one that cannot be opened fails what it is asked for. */
  function providerOf({ name, url }: RemoteConfig): Provider {
    let last: Provider | undefined;
    const provider = async () => {
      last = (await open(name)).provider;
      return last;
    };
    return {
      id: `remote:${name}`,
      tier: 'remote',
      generous: true,
      batch: REMOTE_BATCH,
      describe: () => last?.describe() ?? `the remote ${name} (${url})`,
      async *get(links, options) {
        yield* (await provider()).get(links, options);
      },
      async *tree(root, options) {
        yield* (await provider()).tree(root, options);
      },
      holds: (root) => last?.holds(root) ?? 'unknown',
      distrust: (reason) => log.error({ remote: name, reason }, 'a remote has sent what was not asked for'),
    };
  }

  async function attach(): Promise<void> {
    configs = await listRemotes(home);
    const names = new Set(configs.map(({ name }) => name));
    for (const [name, leave] of joined) {
      if (names.has(name)) continue;
      leave();
      joined.delete(name);
      const gone = opened.get(name);
      opened.delete(name);
      if (gone) await shut(gone);
    }
    for (const config of configs) {
      if (joined.has(config.name)) continue;
      joined.set(config.name, parts.join(providerOf(config)));
    }
  }

  return {
    open,
    attach,
    async prepare() {
      // Who opens it meets the same error, and tells of it.
      for (const config of configs) await prepareStorage(config).catch(() => undefined);
    },
    list: () => configs.map(({ name }) => name),
    async findRef(name, where, signal) {
      configs = await listRemotes(home);
      const asked = where === undefined ? configs.map((config) => config.name) : [where];
      for (const remote of asked) {
        const found = await (await open(remote)).ref(name, signal);
        if (found) return { root: found.ref.snapshots[0].root, remote };
      }
      const whom = asked.map((remote) => `'${remote}'`).join(', ');
      throw new LazytreeError('NOT_FOUND', `there is no '${name}' at the remote ${whom}`, {
        hint: `\`lazytree ref list --remote ${asked[0]}\` lists what there is`,
      });
    },
    async traffic(name) {
      // One that cannot be opened has been told of by whoever wanted it.
      return (await opened.get(name)?.remote.catch(() => undefined))?.storage.traffic();
    },
    async close() {
      for (const leave of joined.values()) leave();
      joined.clear();
      for (const one of opened.values()) await shut(one);
      opened.clear();
    },
  };
}
