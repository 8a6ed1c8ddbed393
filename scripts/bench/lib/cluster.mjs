// Members of a cluster: homes with a daemon each, all on this machine, or on machines of a LAN of namespaces.
import { spawnSync } from 'node:child_process';
import { run, start, VerificationError } from './command.mjs';
import { lazytree } from './lazytree.mjs';
import { waitUntil } from './mount-points.mjs';

const MOST_SECONDS = 60;

/**
 * @typedef {import('./command.mjs').Command} Command
 * @typedef {import('./context.mjs').Context} Context
 * @typedef {import('../../../test/cluster/lan.ts').Machine} Machine
 *
 * @typedef {object} Member
 * @property {string} name
 * @property {string} home
 * @property {(...args: string[]) => Command} command of lazytree, on its machine
 * @property {(options: StartOptions) => void} start its daemon, after it was stopped
 *
 * @typedef {{ listen?: string[], peers?: string[] }} StartOptions
 *
 * @typedef {{ self: { id: string, name: string }, peers: PeerStatus[] }} Peers
 * @typedef {{ id: string, name: string, connected: boolean, sent: number, received: number }} PeerStatus
 */

/**
 * A home that was never used, with a daemon, in no cluster.
 * @param {DisposableStack} stack stops the daemon
 * @param {Context} context
 * @param {{ name: string, machine?: Machine } & StartOptions} options
 * @returns {Member}
 */
export function addMember(stack, context, { name, machine, ...options }) {
  const home = context.fresh(`home-${name}`);
  /** @param {string[]} args */
  const command = (...args) => {
    const { argv, env } = lazytree(home, ...args);
    return { argv: [...(machine?.enter ?? []), ...argv], env: { ...env, LAZYTREE_PEER_NAME: name } };
  };
  /** @param {StartOptions} given */
  const startDaemon = ({ listen = [], peers = [] }) => {
    const addresses = [
      ...listen.flatMap((address) => ['--listen', address]),
      ...peers.flatMap((address) => ['--peer', address]),
    ];
    run(command('daemon', 'start', ...addresses));
  };
  startDaemon(options);
  stack.defer(() => void run(command('daemon', 'stop')));
  return { name, home, command, start: startDaemon };
}

/**
 * @param {Member} founder
 * @param {Member[]} others
 */
export function formCluster(founder, others) {
  run(founder.command('cluster', 'init'));
  for (const other of others) join(other, founder);
}

/**
 * Until both see each other.
 * @param {Member} member in no cluster
 * @param {Member} inviter
 */
export function join(member, inviter) {
  const token = run(inviter.command('cluster', 'invite')).trim();
  run(member.command('cluster', 'join', token));
  waitUntilConnected(member, inviter);
  waitUntilConnected(inviter, member);
}

/**
 * @param {Member} member
 * @param {Member} other
 */
export function waitUntilConnected(member, other) {
  const isConnected = () =>
    peersOf(member).peers.some(({ name, connected }) => name === other.name && connected);
  waitUntil(isConnected, { seconds: MOST_SECONDS, what: `${member.name} connected to ${other.name}` });
}

/**
 * @param {Member} member
 * @returns {Peers}
 */
function peersOf(member) {
  return JSON.parse(run(member.command('cluster', 'peers', '--json')));
}

/**
 * @param {Member} member
 * @returns {{ sent: number, received: number }} bytes, to and from all its peers, since its daemon has started
 */
export function trafficOf(member) {
  const { peers } = peersOf(member);
  const sum = (/** @type {'sent' | 'received'} */ key) => peers.reduce((all, peer) => all + peer[key], 0);
  return { sent: sum('sent'), received: sum('received') };
}

/**
 * A server in the background.
 * @param {DisposableStack} stack ends it
 * @param {Command} command
 * @param {() => boolean} isReady
 */
export function serve(stack, command, isReady) {
  const pid = start(command);
  stack.defer(() => {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      throw new VerificationError(`${command.argv.join(' ')} has ended by itself`);
    }
  });
  waitUntil(isReady, { seconds: MOST_SECONDS, what: command.argv[0] });
}

/**
 * @param {number} port
 * @param {string} [host]
 */
export function isListening(port, host = '127.0.0.1') {
  const probe = `require('net').connect(${port}, '${host}')
    .on('connect', () => process.exit(0)).on('error', () => process.exit(1))`;
  return spawnSync(process.execPath, ['--eval', probe]).status === 0;
}
