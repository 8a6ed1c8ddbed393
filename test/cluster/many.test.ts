import { describe, expect, test } from 'vitest';
import { expectSameTree } from '../helpers.ts';
import { unlessNetworked } from './network.ts';
import { addNode, connectedPeers, formCluster, peerOf, seeEachOther } from './nodes.ts';
import { importFiles, megabytes } from './trees.ts';

const SIZE = 20;
const NAMES = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6', 'n7', 'n8'];

describe.skipIf(unlessNetworked('clusters of many'))('many machines', () => {
  test('eight of them get a tree at once, most of it from each other', async () => {
    const nodes = await formCluster(NAMES);
    const [seed, ...others] = nodes;
    const root = await importFiles(seed, megabytes(SIZE, 'many'), 'tree');
    seed.machine.limit(50);
    await Promise.all(others.map((node) => node.ok('export', 'tree@n1', 'out')));
    for (const node of others) expectSameTree(seed.path('tree'), node.path('out'));
    const sent = (await seed.peers()).peers.reduce((sum, peer) => sum + peer.sent, 0);
    // Seven, if nobody gave to anybody. `npm run bench cluster-many` measures it.
    expect(sent).toBeLessThan(4 * SIZE * 2 ** 20);
    expect((await peerOf(others[6], others[0])).connected).toBe(true);
    await seed.stop();
    expect(await others[3].ok('ls', `${root}/d3`)).toBe('f13\nf3');
  });

  test('one that comes late is found by all, and finds what there is', async () => {
    const nodes = await formCluster(['early1', 'early2']);
    const [first, second] = nodes;
    await importFiles(first, { 'a/file': 'first\n' }, 'one');
    await importFiles(second, { 'b/file': 'second\n' }, 'two');
    const late = await addNode('late');
    // Any member may invite.
    await late.ok('cluster', 'join', await second.ok('cluster', 'invite'));
    await seeEachOther([...nodes, late]);
    expect(await late.ok('cat', 'one@early1/a/file')).toBe('first');
    expect(await late.ok('cat', 'two/b/file')).toBe('second');
    await second.kill();
    expect(await late.ok('cat', 'one/a/file')).toBe('first');
    await second.start();
    await seeEachOther([...nodes, late]);
    await first.stop();
    await first.start();
    await seeEachOther([...nodes, late]);
    expect((await connectedPeers(late)).sort()).toEqual(['early1', 'early2', 'late']);
  });
});
