import { LazytreeError, type Link } from '@lazytree/core';
import { findRefElsewhere, type NameSources } from '@lazytree/node';
import { expect, test } from 'vitest';
import { block, errorOf } from '../../core/test/helpers.ts';

const PEERS = block('at a peer').link;
const REMOTES = block('at a remote').link;
const { signal } = new AbortController();

type Refs = Record<string, Link | LazytreeError>;

const found = (refs: Refs, key: string, where: string): Link => {
  const ref = refs[key] ?? new LazytreeError('NOT_FOUND', `no ${key} at ${where}`);
  if (ref instanceof LazytreeError) throw ref;
  return ref;
};

/** Sources that have refs by `NAME@WHERE`, or by NAME for who asks without a place; they note what they are asked. */
function sources({
  peers,
  remotes,
  names = ['backup', 'other'],
}: {
  peers?: Refs;
  remotes?: Refs;
  names?: string[];
}) {
  const asked: string[] = [];
  const key = (name: string, where: string | undefined) => (where === undefined ? name : `${name}@${where}`);
  const given: NameSources = {
    signal,
    cluster: peers && {
      async findRef(name, peer) {
        asked.push(`cluster ${key(name, peer)}`);
        return { root: found(peers, key(name, peer), 'peers') } as never;
      },
    },
    remotes: remotes && {
      list: () => names,
      async findRef(name, remote) {
        asked.push(`remotes ${key(name, remote)}`);
        return { root: found(remotes, key(name, remote), names.join(' and ')), remote: remote ?? names[0] };
      },
      async attach() {},
    },
  };
  return { asked, given };
}

test('a bare name is looked for among the peers, and then at the remotes', async () => {
  const both = sources({ peers: { app: PEERS }, remotes: { app: REMOTES, tools: REMOTES } });
  expect(await findRefElsewhere('app', undefined, both.given)).toBe(PEERS);
  expect(both.asked).toEqual(['cluster app']);
  expect(await findRefElsewhere('tools', undefined, both.given)).toBe(REMOTES);
  expect(both.asked.slice(1)).toEqual(['cluster tools', 'remotes tools']);
  const alone = sources({ remotes: { app: REMOTES } });
  expect(await findRefElsewhere('app', undefined, alone.given)).toBe(REMOTES);
});

test('a remote goes before a peer of the same name, and anybody else is a peer', async () => {
  const { given, asked } = sources({
    peers: { 'app@backup': PEERS, 'app@anna': PEERS },
    remotes: { 'app@backup': REMOTES },
  });
  expect(await findRefElsewhere('app', 'backup', given)).toBe(REMOTES);
  expect(await findRefElsewhere('app', 'anna', given)).toBe(PEERS);
  expect(asked).toEqual(['remotes app@backup', 'cluster app@anna']);
  // It is not looked for elsewhere what somebody was named for.
  expect(await errorOf(findRefElsewhere('tools', 'backup', given))).toMatchObject({ code: 'NOT_FOUND' });
  expect(asked.slice(2)).toEqual(['remotes tools@backup']);
});

test.each<[string, Parameters<typeof sources>[0], string | undefined, string]>([
  ['peers and remotes', { peers: {}, remotes: {} }, undefined, 'no app at peers; no app at backup and other'],
  ['peers', { peers: {} }, undefined, 'no app at peers'],
  ['no remotes', { remotes: {}, names: [] }, undefined, "there is no ref 'app', and it is not a CID"],
  ['a stranger', { remotes: {} }, 'anna', "there is no remote 'anna'"],
  [
    'a stranger in a cluster',
    { peers: {}, remotes: {} },
    'anna',
    "no app@anna at peers; there is no remote 'anna'",
  ],
])(
  'what nobody has is not found, and the error names who was asked: %s',
  async (_, given, where, message) => {
    const error = await errorOf(findRefElsewhere('app', where, sources(given).given));
    expect(error).toMatchObject({ code: 'NOT_FOUND', message });
  },
);

test('whoever may have it and cannot be asked ends the search', async () => {
  const away = new LazytreeError('NETWORK', 'backup does not answer', { hint: 'plug it in' });
  const { given } = sources({ peers: {}, remotes: { app: away } });
  const error = await errorOf(findRefElsewhere('app', undefined, given));
  expect(error).toMatchObject({
    code: 'NETWORK',
    message: 'no app at peers; backup does not answer',
    hint: 'plug it in',
  });
  const several = new LazytreeError('USAGE', 'several peers publish it');
  const unclear = sources({ peers: { app: several }, remotes: { app: REMOTES } });
  expect(await errorOf(findRefElsewhere('app', undefined, unclear.given))).toBe(several);
  expect(unclear.asked).toEqual(['cluster app']);
});
