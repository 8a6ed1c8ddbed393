import { describe, expect, test } from 'vitest';
import { pseudoRandom } from '../helpers.ts';
import { shOk } from '../mount/mounted.ts';
import { startDelayProxy } from './delay-proxy.ts';
import { HERE, unlessNetworked } from './network.ts';
import { formCluster, type Node, received, seeEachOther } from './nodes.ts';
import { importFiles, WORKSPACE } from './trees.ts';

const PORT = 4001;
const DELAY_MS = 20;

/** Requests are what costs time between machines far from each other: they are counted here, not measured. */
describe.skipIf(unlessNetworked('peers that are far'))('a peer 20 ms away', () => {
  async function requests(node: Node): Promise<number> {
    const { peers } = await node.json<{ peers: { fetch?: { requests: number } }[] }>('cluster', 'peers');
    return peers.reduce((sum, { fetch }) => sum + (fetch?.requests ?? 0), 0);
  }

  test('is asked few times for much: a listing, a whole tree, a second one that is like it', async () => {
    const [far, near] = await formCluster(['far', 'near']);
    const root = await importFiles(far, WORKSPACE, 'tree');
    const changed = await importFiles(far, { ...WORKSPACE, 'modules/m7/new.js': 'new\n' }, 'tree', 'changed');
    await Promise.all([far, near].map((node) => node.stop()));
    far.machine.isolate();
    near.machine.isolate();
    const proxy = await startDelayProxy({
      host: HERE,
      target: { host: far.machine.address, port: PORT },
      delay: DELAY_MS,
    });
    await far.start(['--listen', `/ip4/0.0.0.0/tcp/${PORT}`]);
    await near.start(['--peer', `/ip4/${HERE}/tcp/${proxy.port}`]);
    await seeEachOther([far, near]);
    expect(proxy.connections().ever).toBe(1);

    const listed = await near.ok('ls', '-l', root);
    expect(listed.split('\n').length).toBeGreaterThan(5);
    expect(await requests(near)).toBeLessThanOrEqual(3);

    await near.ok('mount', root, 'mounted', '--no-prefetch');
    expect(await shOk(near, 'find mounted -type f | wc -l')).toBe('311\n');
    expect(await requests(near)).toBeLessThanOrEqual(8);
    await near.ok('unmount', 'mounted');

    const before = await requests(near);
    await near.ok('prefetch', root);
    await near.ok('export', changed, 'out');
    await shOk(near, `diff -r out ${far.path('changed')}`);
    // By number of files, it would be hundreds.
    expect((await requests(near)) - before).toBeLessThanOrEqual(30);

    // What was read of a tree there, in that order, is on its way here from the mount on, and no more of it.
    const READ = 'ls modules/m*/f*.js | sort -t/ -k3 | awk "NR % 3 == 0" | xargs cat | sha256sum';
    const other = Object.fromEntries(
      Object.entries(WORKSPACE).map(([path, file]) => [path, typeof file === 'string' ? `// ${file}` : file]),
    );
    const third = await importFiles(
      far,
      { ...other, 'assets/new': pseudoRandom(4 << 20, 'new') },
      'third',
      'other',
    );
    await far.ok('mount', third, 'read-there');
    const content = await shOk(far, `cd read-there && ${READ}`);
    await far.ok('unmount', 'read-there');
    const [asked, crossed] = [await requests(near), await received(near)];
    await near.ok('mount', third, 'read-here');
    expect(await shOk(near, `cd read-here && ${READ}`)).toBe(content);
    expect((await requests(near)) - asked).toBeLessThanOrEqual(20);
    expect((await received(near)) - crossed).toBeLessThan(1 << 20);
    await near.ok('unmount', 'read-here');
    await proxy.close();
  });
});
