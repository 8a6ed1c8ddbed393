import { beforeAll, describe, expect, test } from 'vitest';
import { unlessNetworked } from '../cluster/network.ts';
import { formCluster, type Node, received, seeEachOther } from '../cluster/nodes.ts';
import { importFiles, UNREAD_BYTES, WORKSPACE } from '../cluster/trees.ts';
import { pseudoRandom, type Sandbox, writeFiles } from '../helpers.ts';
import { shOk } from '../mount/mounted.ts';
import { expectSame, newMachine, openPlace } from './places.ts';

const MEGABYTE = 1 << 20;

/** Bytes that a machine has got from its remote so far. */
async function fromRemote(box: Sandbox): Promise<number> {
  const { remotes } = await box.json<{ remotes: { traffic: { received: number } | null }[] }>(
    'remote',
    'list',
  );
  return remotes[0].traffic?.received ?? 0;
}

describe.skipIf(unlessNetworked('clusters with a remote'))('a cluster with a remote', () => {
  let ana: Node;
  let ben: Node;
  let outsider: Sandbox;
  let root: string;

  beforeAll(async () => {
    const place = await openPlace('directory');
    [ana, ben] = await formCluster(['ana', 'ben']);
    root = await importFiles(ana, WORKSPACE, 'app');
    for (const node of [ana, ben]) await node.ok('remote', 'add', 'r', ...place.address);
    await ana.ok('push', 'app', 'r');
    outsider = await newMachine(place);
    writeFiles(outsider.path('more'), { ...WORKSPACE, 'assets/more': pseudoRandom(MEGABYTE, 'more') });
    await outsider.ok('import', 'more', '--name', 'more');
    await outsider.ok('push', 'more', 'r');
  });

  test('what a peer has comes from it', async () => {
    await ben.ok('mount', root, 'mounted');
    expect(await shOk(ben, 'mounted/bin/run')).toBe('42\n');
    expect(await shOk(ben, 'cat mounted/assets/a1/picture | wc -c')).toBe(`${2 * MEGABYTE}\n`);
    expect(await received(ben)).toBeGreaterThan(2 * MEGABYTE);
    expect(await fromRemote(ben)).toBe(0);
    await ben.ok('unmount', 'mounted');
  });

  test('what it lacks, and nothing else, comes from the remote', async () => {
    const before = await received(ben);
    await ben.ok('export', 'more@r', 'exported');
    await expectSame(ben, outsider.path('more'), 'exported');
    expect((await received(ben)) - before).toBeGreaterThan(UNREAD_BYTES - 5 * MEGABYTE);
    expect(await fromRemote(ben)).toBeGreaterThan(MEGABYTE);
    expect(await fromRemote(ben)).toBeLessThan(5 * MEGABYTE);
  });

  test('without the peer, all comes from the remote', async () => {
    ana.machine.unplug();
    const other = await importFiles(ana, { only: 'here\n' }, 'only');
    await ana.ok('push', 'only', 'r');
    expect(await ben.ok('cat', 'only@r/only')).toBe('here');
    expect(await ben.ok('cat', `${other}/only`)).toBe('here');
    ana.machine.plug();
    await seeEachOther([ana, ben]);
  });
});
