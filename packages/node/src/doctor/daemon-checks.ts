import { runThroughDaemon } from '../daemon/control-client.js';
import type { DaemonStatus } from '../daemon/protocol.js';
import { daemonSocket, isClusterHome } from '../home-directory.js';
import type { Check } from './check.js';

type Found = Omit<Check, 'name'>;

/** Whether the daemon that answers, if one does, is one that this command can use. */
export function describeDaemon(
  daemon: DaemonStatus | undefined,
  { home, version }: { home: string; version: string },
): Found {
  if (!daemon) return { status: 'unused', detail: 'none runs; what needs one starts it' };
  const detail = `process ${daemon.pid} answers on ${daemonSocket(home)}`;
  if (daemon.version === version) return { status: 'ok', detail };
  return {
    status: 'limited',
    detail: `${detail}, but is version ${daemon.version}, and this is ${version}`,
    hint: 'run `lazytree daemon stop`',
  };
}

/** Whether the machines of the cluster are there, as the daemon sees them. */
export async function checkCluster(
  home: string,
  { daemon, version, signal }: { daemon: DaemonStatus | undefined; version: string; signal: AbortSignal },
): Promise<Found> {
  if (!isClusterHome(home)) return { status: 'unused', detail: 'this machine is in none' };
  if (!daemon) {
    return {
      status: 'limited',
      detail: 'this machine is in one, but no daemon runs, which its peers could ask',
      hint: 'run `lazytree daemon start`',
    };
  }
  const { cluster, peers } = JSON.parse(
    await ask(home, ['cluster', 'peers', '--json'], { version, signal }),
  ) as {
    cluster: string;
    peers: { connected: boolean }[];
  };
  const connected = peers.filter((peer) => peer.connected).length;
  const detail = `${cluster}: ${connected} of ${peers.length} peers are connected`;
  if (connected > 0 || peers.length === 0) return { status: 'ok', detail };
  return {
    status: 'limited',
    detail,
    hint: 'see `lazytree cluster peers`; beyond a LAN, name one with `lazytree daemon start --peer ADDRESS`',
  };
}

/** What a command of the daemon prints. @throws LazytreeError FAILED, as it says why it failed */
async function ask(
  home: string,
  argv: string[],
  { version, signal }: { version: string; signal: AbortSignal },
): Promise<string> {
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  const exitCode = await runThroughDaemon(
    home,
    { argv, cwd: '/', terminal: { stdout: false, progress: false }, env: {} },
    {
      version,
      signal,
      sink: {
        async stdout(bytes) {
          output.push(Buffer.from(bytes));
          return true;
        },
        stderr: (text) => void errors.push(Buffer.from(text)),
        progress: async () => undefined,
      },
    },
  );
  if (exitCode === 0) return Buffer.concat(output).toString();
  throw new Error(Buffer.concat(errors).toString().trim() || 'the daemon does not answer');
}
