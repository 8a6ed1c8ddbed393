import { daemonStatus } from '../daemon/control-client.js';
import type { DaemonStatus } from '../daemon/protocol.js';
import { type CredentialEnv, credentialEnv } from '../remotes/credential-variables.js';
import { listRemotes } from '../remotes/remotes-file.js';
import { type Check, look } from './check.js';
import { checkCluster, describeDaemon } from './daemon-checks.js';
import { checkHome, checkSpace, checkStore } from './home-checks.js';
import { checkFuse, checkFusermount, checkOverlay, checkUserNamespaces } from './mount-checks.js';
import { checkGit } from './programs.js';
import { checkRemote } from './remote-check.js';

export interface ExamineOptions {
  home: string;
  version: string;
  env: NodeJS.ProcessEnv;
  signal: AbortSignal;
}

/** Finds out what this machine can do for a home, by trying it. What is tried leaves nothing behind. */
export async function* examine({ home, version, env, signal }: ExamineOptions): AsyncGenerator<Check> {
  yield { name: 'node', status: 'ok', detail: `${process.version}, of ${process.platform} ${process.arch}` };
  const place = await look('home', 'failed', () => checkHome(home));
  yield place;
  if (place.status === 'ok') yield* examineHome({ home, version, env, signal });
  yield await look('git', 'limited', checkGit);
}

async function* examineHome({ home, version, env, signal }: ExamineOptions): AsyncGenerator<Check> {
  let daemon: DaemonStatus | undefined;
  const answer = await look('daemon', 'limited', async () => {
    daemon = await daemonStatus(home);
    return describeDaemon(daemon, { home, version });
  });
  yield await look('store', 'failed', () => checkStore(home, daemon?.pid));
  yield await look('space', 'limited', () => checkSpace(home));
  yield answer;
  signal.throwIfAborted();
  yield await look('fuse', 'limited', () => checkFuse(home));
  yield await look('fusermount3', 'limited', checkFusermount);
  yield await look('user namespaces', 'limited', checkUserNamespaces);
  signal.throwIfAborted();
  yield await look('overlayfs', 'limited', () => checkOverlay(home));
  signal.throwIfAborted();
  yield await look('cluster', 'limited', () => checkCluster(home, { daemon, version, signal }));
  yield* examineRemotes(home, credentialEnv(env));
}

async function* examineRemotes(home: string, env: CredentialEnv): AsyncGenerator<Check> {
  let remotes: Awaited<ReturnType<typeof listRemotes>> = [];
  const listed = await look('remotes', 'limited', async () => {
    remotes = await listRemotes(home);
    return remotes.length === 0
      ? { status: 'unused', detail: 'there are none' }
      : { status: 'ok', detail: remotes.map(({ name }) => name).join(', ') };
  });
  yield listed;
  for (const remote of remotes)
    yield await look(`remote ${remote.name}`, 'limited', () => checkRemote(remote, env));
}
