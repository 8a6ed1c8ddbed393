import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import {
  afterwards,
  BIN,
  type Daemon,
  launchDaemon,
  type Result,
  type RunOptions,
  type Sandbox,
  sandbox,
  start,
} from '../helpers.ts';
import { addMachine, type Machine } from './network.ts';

/** Longer than anything here takes on a busy machine: what has not happened then, does not happen. */
const PATIENCE_MS = 60_000;

export interface Peer {
  id: string;
  name: string;
  addresses: string[];
  connected: boolean;
  latency: number | null;
  roots: number;
  sent: number;
  received: number;
}

interface Peers {
  self: { id: string; name: string; addresses: string[] };
  peers: Peer[];
}

/** A home on a machine of the LAN, and the daemon that opens it. */
export interface Node extends Sandbox {
  name: string;
  machine: Machine;
  /** The daemon that runs, or ran last. */
  daemon(): Daemon;
  /** @param args of `daemon run` */
  start(args?: readonly string[]): Promise<Daemon>;
  /** In order, as SIGTERM does. */
  stop(): Promise<void>;
  /** As `kill -9` does, with what it had mounted taken away. */
  kill(): Promise<void>;
  pause(): void;
  resume(): void;
  /** Runs a command of lazytree that goes on until it is interrupted or done. */
  begin(...args: string[]): ReturnType<typeof start>;
  peers(): Promise<Peers>;
}

export interface NodeOptions {
  /** Of the daemon, each time that it is started. */
  daemon?: readonly string[];
  /** In place of a new directory, which holds the home and all else. */
  directory?: string;
  env?: NodeJS.ProcessEnv;
}

/** A node that is on the LAN, and in no cluster, with its daemon running. */
export async function addNode(name: string, options: NodeOptions = {}): Promise<Node> {
  const machine = await addMachine(name);
  const common: Partial<RunOptions> = { enter: machine.enter, env: { ...options.env } };
  const box = sandbox(options.directory, common);
  let running: Daemon | undefined;

  const node: Node = {
    ...box,
    name,
    machine,
    daemon() {
      if (!running) throw new Error(`${name} has no daemon`);
      return running;
    },
    async start(args = options.daemon) {
      for (const late = performance.now() + PATIENCE_MS; ; ) {
        const daemon = await launchDaemon({ home: box.home, ...common }, args);
        if ('pid' in daemon) {
          running = daemon;
          return daemon;
        }
        if (!/is running already|is locked by process/.test(daemon.err) || performance.now() > late)
          throw new Error(`the daemon of ${name} does not start: ${daemon.err}`);
        // A command has found the one before killed, and has brought another one.
        await box.run(['daemon', 'stop']);
      }
    },
    async stop() {
      const { code, signal } = await node.daemon().stop();
      expect({ code, signal }).toEqual({ code: 0, signal: null });
    },
    async kill() {
      node.daemon().child.kill('SIGKILL');
      await node.daemon().ended;
      takeAwayMounts(box.directory);
    },
    pause: () => void node.daemon().child.kill('SIGSTOP'),
    resume: () => void node.daemon().child.kill('SIGCONT'),
    begin: (...args) =>
      start([process.execPath, BIN, ...args], { home: box.home, cwd: box.directory, ...common }),
    peers: () => box.json<Peers & Record<string, unknown>>('cluster', 'peers'),
  };
  await node.start();
  // Before what `launchDaemon` has registered, which waits for ever for a daemon that is paused or stuck.
  afterwards(() => end(node));
  return node;
}

async function end(node: Node): Promise<void> {
  node.machine.plug();
  node.resume();
  const late = setTimeout(() => node.daemon().child.kill('SIGKILL'), 15_000);
  await node.daemon().stop();
  clearTimeout(late);
  // One that a command has brought back, and who keeps mounts for the next one.
  await node.run(['daemon', 'stop']);
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const [, script = '', socket = ''] = commandLine(pid);
    if (script.endsWith('/keeper-process.js') && socket.startsWith(`${node.home}/`))
      process.kill(Number(pid), 'SIGKILL');
  }
  takeAwayMounts(node.directory);
}

function commandLine(pid: string): string[] {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    // It has ended meanwhile.
    return [];
  }
}

/** What a killed daemon leaves: whoever touches it would get errors for ever. */
function takeAwayMounts(directory: string): void {
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  for (const line of lines.reverse()) {
    const [, , , , target, , ...rest] = line.split(' ');
    const isServed = rest.includes('overlay') || rest.some((word) => word.startsWith('fuse'));
    if (isServed && target.startsWith(`${directory}/`)) spawnSync('umount', ['-l', target]);
  }
}

/** A cluster of new nodes that all see each other. The first is its founder, and invites the others. */
export async function formCluster(names: readonly string[], options: NodeOptions = {}): Promise<Node[]> {
  const nodes = await Promise.all(names.map((name) => addNode(name, options)));
  await joinAll(nodes);
  return nodes;
}

export async function joinAll([founder, ...others]: readonly Node[]): Promise<void> {
  await founder.ok('cluster', 'init');
  await Promise.all(
    others.map(async (node) => {
      const token = await founder.ok('cluster', 'invite');
      await node.ok('cluster', 'join', token);
    }),
  );
  await seeEachOther([founder, ...others]);
}

/** Until each of them is connected to all others. */
export async function seeEachOther(nodes: readonly Node[]): Promise<void> {
  await eventually(`${nodes.map(({ name }) => name).join(', ')} see each other`, async () => {
    const seen = await Promise.all(nodes.map(connectedPeers));
    return seen.every((names) => nodes.every(({ name }) => names.includes(name))) || seen;
  });
}

/** Names of the peers that a node is connected to, and its own. */
export async function connectedPeers(node: Node): Promise<string[]> {
  const { self, peers } = await node.peers();
  return [self, ...peers.filter(({ connected }) => connected)].map(({ name }) => name);
}

/** What a node has of one that it knows. */
export async function peerOf(node: Node, other: Node): Promise<Peer> {
  const { peers } = await node.peers();
  const found = peers.find(({ name }) => name === other.name);
  if (!found) throw new Error(`${node.name} does not know ${other.name}: ${JSON.stringify(peers)}`);
  return found;
}

/** Bytes that a node has got from all of its peers so far. */
export async function received(node: Node): Promise<number> {
  return (await node.peers()).peers.reduce((sum, peer) => sum + peer.received, 0);
}

/** Until `check` gives true; what it gave last, and what it threw, is in the error when it never does. */
export async function eventually(what: string, check: () => unknown, patience = PATIENCE_MS): Promise<void> {
  const end = performance.now() + patience;
  for (;;) {
    const found = await Promise.resolve()
      .then(check)
      .catch((error: unknown) => error);
    if (found === true) return;
    if (performance.now() > end) {
      const last = found instanceof Error ? found.message : JSON.stringify(found);
      throw new Error(`not within ${patience / 1000} s: ${what}; at last: ${last}`);
    }
    await sleep(100);
  }
}

/** A command that must end by itself, with whatever result. One that does not is killed, and is an error. */
export async function ends(
  what: string,
  { child, ended }: ReturnType<typeof start>,
  patience = PATIENCE_MS,
): Promise<Result> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, patience);
  const result = await ended;
  clearTimeout(timer);
  if (late) throw new Error(`it hangs, for ${patience / 1000} s: ${what}`);
  return result;
}
