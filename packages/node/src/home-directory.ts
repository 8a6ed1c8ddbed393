import { existsSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';

/** `LAZYTREE_HOME`, or `lazytree` in the XDG data directory (XDG Base Directory Specification). */
export function homeDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env.LAZYTREE_HOME) return resolve(env.LAZYTREE_HOME);
  // With a HOME that is set to nothing, it would be wherever one is.
  const home = () => homedir() || userInfo().homedir;
  const data = env.XDG_DATA_HOME?.startsWith('/') ? env.XDG_DATA_HOME : join(home(), '.local', 'share');
  return join(data, 'lazytree');
}

export function storeDirectory(home: string): string {
  return join(home, 'store');
}

export const SOCKET_NAME = 'daemon.sock';

export function daemonSocket(home: string): string {
  return join(home, SOCKET_NAME);
}

export const KEEPER_SOCKET = 'keeper.sock';

/** There is one as long as mounts are kept for a daemon, be it there or one that was killed. */
export function keeperSocket(home: string): string {
  return join(home, KEEPER_SOCKET);
}

export function daemonLog(home: string): string {
  return join(home, 'daemon.log');
}

/** Where a home keeps what makes it a member of a cluster. */
export function clusterDirectory(home: string): string {
  return join(home, 'cluster');
}

export function membershipFile(home: string): string {
  return join(clusterDirectory(home), 'membership.json');
}

/** Where a home keeps which remotes it has. */
export function remotesFile(home: string): string {
  return join(home, 'remotes.json');
}

/** Whether a home has had remotes, as far as a look at a name tells. */
export function hasRemotes(home: string): boolean {
  return existsSync(remotesFile(home));
}

/** Whether a home is in a cluster, as far as a look at a name tells. */
export function isClusterHome(home: string): boolean {
  return existsSync(membershipFile(home));
}
