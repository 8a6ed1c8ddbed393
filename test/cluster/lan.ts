import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
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
 *
 * Nothing of vitest in here: benchmarks use it, too.
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
  /** Undoes that. */
  include(): void;
  /** Sends no faster than this. */
  limit(megabytesPerSecond: number): void;
}

/** Why there can be no LAN here, or undefined when there can. */
export function whyNoLan(): string | undefined {
  const script =
    'ip link add name lan type bridge && ip link add name port1 type veth peer name eth0 && hostname x';
  const { status, stderr, error } = spawnSync('unshare', ['--net', '--uts', 'sh', '-c', script], {
    encoding: 'utf8',
  });
  if (error) return `there is no unshare: ${error.message}`;
  return status === 0 ? undefined : `no network namespaces with a bridge: ${stderr.trim()}`;
}

export interface Lan {
  addMachine(name: string): Promise<Machine>;
  /** Ends all machines. This process is where it was before. */
  leave(): void;
}

/** From here on, what this process opens and starts is on the LAN, and nowhere else. One LAN at a time. */
export function enterLan(): Lan {
  const outside = fs.openSync('/proc/thread-self/ns/net', 'r');
  unshare(CLONE_NEWNET);
  // Without snooping and learning delays, the first multicast of a machine reaches all others. A bridge without an
  // address of its own takes one of its ports', and another one when that port is lost: nobody would find it for a while.
  ip(`link set lo up
    link add name lan address 02:00:00:00:00:fe type bridge forward_delay 0 stp_state 0 mcast_snooping 0
    address add ${HERE}/24 dev lan
    link set lan up
    route add 224.0.0.0/4 dev lan`);
  const holders: ChildProcess[] = [];
  return {
    async addMachine(name) {
      const holder = await holdNamespaces(name);
      return connectMachine(name, holder.pid as number, holders.push(holder));
    },
    leave() {
      for (const holder of holders) holder.kill('SIGKILL');
      setns(outside, CLONE_NEWNET);
      fs.closeSync(outside);
    },
  };
}

function connectMachine(name: string, holder: number, number: number): Machine {
  const port = `port${number}`;
  const address = `${SUBNET}.${number}`;
  ip(`link add name ${port} type veth peer name eth0 netns ${holder}
    link set ${port} master lan up`);
  const enter = [
    'nsenter',
    `--net=/proc/${holder}/ns/net`,
    `--uts=/proc/${holder}/ns/uts`,
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
    include: () => ip(`link set ${port} type bridge_slave isolated off`),
    limit(megabytesPerSecond) {
      const rate = `${megabytesPerSecond * 8}mbit`;
      batch('tc', `qdisc replace dev eth0 root tbf rate ${rate} burst 256kb latency 300ms`, enter);
    },
  };
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
