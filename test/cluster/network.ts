import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { afterwards, whyNotMount } from '../helpers.ts';
import { setns, unshare } from '../mount/libc.ts';

/**
 * A LAN of network namespaces: one for each machine, and one with the bridge that joins them.
 *
 * None of them has a name, an interface or an address that anybody else sees, so any number of runs share a machine.
 * The bridge is in a namespace that this process enters: what it opens (proxies, hostile clients) is on the LAN. A
 * machine's namespace is kept by a process that ends when this one does, however it ends: nothing is left behind.
 *
 * Commands enter with `nsenter --net --uts`, not with `ip netns exec`: that makes a mount namespace as well, and what
 * a daemon in it mounts would be seen by nobody else.
 */

const SUBNET = '10.99.0';
/** Where this process is on the LAN. */
export const HERE = `${SUBNET}.254`;
const CLONE_NEWNET = 0x40000000;

export interface Machine {
  /** Its host name, too. */
  name: string;
  address: string;
  /** Runs a command there, which follows as arguments; ended by the kernel when this process ends. */
  enter: readonly string[];
  /** Takes its cable out: it has no carrier, and nobody hears of it. */
  unplug(): void;
  /** Has a cable that leads nowhere: what it sends, and what is sent to it, vanishes without an error. */
  blackHole(): void;
  /** Undoes either of them. */
  plug(): void;
  /** Hears no other machine that is isolated, and they do not hear it: only the others, and this process, do. */
  isolate(): void;
  /** Sends no faster than this. */
  limit(megabytesPerSecond: number): void;
}

/** Whether tests that need a LAN have to be skipped here; if so, says why on the terminal. */
export function unlessNetworked(what: string): boolean {
  const reason = whyNotNetwork();
  if (reason) console.warn(`skipped all tests of ${what}: ${reason}`);
  return reason !== undefined;
}

function whyNotNetwork(): string | undefined {
  const reason = whyNotMount();
  if (reason) return reason;
  const script =
    'ip link add name lan type bridge && ip link add name port1 type veth peer name eth0 && hostname x';
  const { status, stderr, error } = spawnSync('unshare', ['--net', '--uts', 'sh', '-c', script], {
    encoding: 'utf8',
  });
  if (error) return `there is no unshare: ${error.message}`;
  return status === 0 ? undefined : `no network namespaces with a bridge: ${stderr.trim()}`;
}

let machines: number | undefined;

/** Makes the LAN with the first machine. */
export async function addMachine(name: string): Promise<Machine> {
  if (machines === undefined) enterLan();
  const number = ++(machines as number);
  const holder = await holdNamespaces(name);
  const port = `port${number}`;
  const address = `${SUBNET}.${number}`;
  ip(`link add name ${port} type veth peer name eth0 netns ${holder.pid}
    link set ${port} master lan up`);
  const enter = [
    'nsenter',
    `--net=/proc/${holder.pid}/ns/net`,
    `--uts=/proc/${holder.pid}/ns/uts`,
    'setpriv',
    '--pdeathsig=KILL',
  ];
  ip(
    `link set lo up
    address add ${address}/24 dev eth0
    link set eth0 up
    route add 224.0.0.0/4 dev eth0`,
    enter,
  );
  return {
    name,
    address,
    enter,
    unplug: () => ip(`link set ${port} down`),
    blackHole: () => ip(`link set ${port} nomaster`),
    plug: () => ip(`link set ${port} master lan up`),
    isolate: () => ip(`link set ${port} type bridge_slave isolated on`),
    limit(megabytesPerSecond) {
      const rate = `${megabytesPerSecond * 8}mbit`;
      batch('tc', `qdisc replace dev eth0 root tbf rate ${rate} burst 256kb latency 300ms`, enter);
    },
  };
}

/** From here on, what this process opens and starts is on the LAN, and nowhere else. */
function enterLan(): void {
  const outside = fs.openSync('/proc/thread-self/ns/net', 'r');
  unshare(CLONE_NEWNET);
  machines = 0;
  afterwards(() => {
    setns(outside, CLONE_NEWNET);
    fs.closeSync(outside);
    machines = undefined;
  });
  // Without snooping and learning delays, the first multicast of a machine reaches all others.
  ip(`link set lo up
    link add name lan type bridge forward_delay 0 stp_state 0 mcast_snooping 0
    address add ${HERE}/24 dev lan
    link set lan up
    route add 224.0.0.0/4 dev lan`);
}

/** A process with a network and a host name of its own, for as long as its stdin is open. */
async function holdNamespaces(name: string): Promise<ChildProcess> {
  const script = 'hostname "$1" && echo ready && exec cat';
  const holder = spawn('unshare', ['--net', '--uts', 'sh', '-c', script, 'sh', name], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [first] = await Promise.race([
    once(holder.stdout as NodeJS.ReadableStream, 'data'),
    once(holder, 'exit'),
  ]);
  if (String(first) !== 'ready\n') throw new Error(`no namespaces for ${name}: unshare ended with ${first}`);
  afterwards(() => holder.kill('SIGKILL'));
  return holder;
}

function ip(lines: string, enter?: readonly string[]): void {
  batch('ip', lines, enter);
}

function batch(tool: 'ip' | 'tc', lines: string, enter: readonly string[] = []): void {
  const [program, ...args] = [...enter, tool, '-batch', '-'];
  const { status, stderr, error } = spawnSync(program, args, { input: `${lines}\n`, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${tool}: ${error?.message ?? stderr}\n${lines}`);
}
