import { LazytreeError } from '@lazytree/core';
import type { ClusterStatus } from '@lazytree/node/daemon';
import type { Action } from '../command.js';
import { formatBytes, table } from '../output.js';

const AS: [string, string] = [
  '--as <name>',
  'how people call this machine; by default as its host is called',
];

const init: Action = {
  arguments: '',
  summary: 'begin a cluster with this machine in it, and print its id',
  options: [AS],
  where: 'daemon',
  async run(context, _, { as }) {
    const cluster = await context.host().cluster();
    const { id, self } = await cluster.init({ name: as as string | undefined });
    return { data: { cluster: id, self }, text: `${id}\n` };
  },
};

const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function lifetime(text: string): number {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (unit !== undefined) return Number(count) * UNITS[unit];
  throw new LazytreeError('USAGE', `--for is a time such as 15m, 2h or 1d, not '${text}'`);
}

const invite: Action = {
  arguments: '',
  summary: 'print a token with which others can join, for a while',
  options: [['--for <time>', 'how long it is valid: 90s, 15m, 2h, up to 7d', '15m']],
  where: 'daemon',
  async run(context, _, { for: time }) {
    const cluster = await context.host().cluster();
    const token = await cluster.invite(lifetime(String(time)));
    return { data: { token }, text: `${token}\n` };
  },
};

const join: Action = {
  arguments: '<token>',
  summary: 'become a member of the cluster that a token was made in',
  options: [AS],
  where: 'daemon',
  async run(context, [given], { as }) {
    const cluster = await context.host().cluster();
    const { id, self } = await cluster.join(given, {
      name: as as string | undefined,
      signal: context.signal,
    });
    return { data: { cluster: id, self }, text: `${id}\n` };
  },
};

const leave: Action = {
  arguments: '',
  summary: 'take this machine out of its cluster; what it has stays',
  where: 'daemon',
  async run(context) {
    await (await context.host().cluster()).leave();
    return { data: { left: true } };
  },
};

const peers: Action = {
  arguments: '',
  summary: 'list the machines of the cluster',
  where: 'daemon',
  async run(context) {
    const cluster = await context.host().cluster();
    await cluster.ready(context.signal);
    const status = await cluster.status();
    const fetched = new Map(
      context
        .host()
        .fetch.status()
        .map((peer) => [peer.id, peer]),
    );
    const peers = status.peers.map((peer) => ({ ...peer, fetch: fetched.get(peer.id) ?? null }));
    return { data: { cluster: status.id, self: status.self, peers }, text: describe(status) };
  },
};

function describe({ self, peers }: ClusterStatus): string {
  const rows = peers.map(({ id, name, addresses, connected, latency, roots, sent, received, distrusted }) => [
    name,
    id,
    distrusted === undefined ? (connected ? `${(latency ?? 0).toFixed(1)} ms` : 'away') : 'distrusted',
    `${roots} roots`,
    `${formatBytes(sent)} sent`,
    `${formatBytes(received)} received`,
    addresses[0] ?? '',
  ]);
  return table([[self.name, self.id, 'this machine', '', '', '', self.addresses[0] ?? ''], ...rows]);
}

export const command = {
  summary: 'machines that fetch from each other',
  actions: { init, invite, join, peers, leave },
};
