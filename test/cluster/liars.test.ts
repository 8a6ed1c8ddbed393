import { beforeEach, describe, expect, test } from 'vitest';
import { expectSameTree } from '../helpers.ts';
import { sh, shOk } from '../mount/mounted.ts';
import { damage, forge } from './forge.ts';
import { unlessNetworked } from './network.ts';
import { connectedPeers, ends, eventually, formCluster, type Node, seeEachOther } from './nodes.ts';
import { importFiles, megabytes } from './trees.ts';

const COUNT = 12;

/** A member of the cluster whose blocks are not what their digests say. */
describe.skipIf(unlessNetworked('peers that lie'))('a peer that lies', () => {
  let liar: Node;
  let honest: Node;
  let asking: Node;
  let root: string;
  let source: string;

  beforeEach(async () => {
    [liar, honest, asking] = await formCluster(['liar', 'honest', 'asking']);
    root = await importFiles(honest, megabytes(COUNT, 'truth'), 'truth');
    source = honest.path('truth');
    await liar.ok('prefetch', root);
    await liar.stop();
  });

  async function lie(): Promise<void> {
    expect(await forge(liar.home)).toBeGreaterThanOrEqual(COUNT);
    await liar.start();
  }

  test('harms nobody who can ask another', async () => {
    await lie();
    await seeEachOther([liar, honest, asking]);
    expect(await ends('an export', asking.begin('export', root, 'out'))).toMatchObject({ code: 0, err: '' });
    expectSameTree(source, asking.path('out'));
    expect(await asking.json('verify', root)).toMatchObject({ sound: true });
  });

  test('is believed nothing when there is nobody else, and is not asked for long', async () => {
    await honest.stop();
    await lie();
    await eventually('they see each other', async () => (await connectedPeers(asking)).includes('liar'));
    const { code, out, err } = await ends('an export', asking.begin('export', root, 'out'));
    expect([5, 7]).toContain(code);
    expect({ out, err }).toEqual({ out: '', err: expect.stringMatching(/^lazytree: [^\n]+\n$/) });
    await asking.ok('mount', root, 'mounted', '--no-prefetch');
    expect(await sh(asking, 'cat mounted/d1/f1')).toMatchObject({ code: 1, out: '' });
    await honest.start();
    await eventually('the honest one is back', async () => (await connectedPeers(asking)).includes('honest'));
    await shOk(asking, `cmp mounted/d1/f1 ${source}/d1/f1`);
    await asking.ok('unmount', 'mounted');
    await asking.ok('export', root, 'again');
    expectSameTree(source, asking.path('again'));
    expect(await asking.json('verify', root)).toMatchObject({ sound: true });
  });

  test('a store that is damaged gives errors to nobody, and is repaired by the others', async () => {
    expect(await damage(liar.home)).toBeGreaterThanOrEqual(COUNT);
    await liar.start();
    await seeEachOther([liar, honest, asking]);
    expect(await ends('an export', asking.begin('export', root, 'out'))).toMatchObject({ code: 0, err: '' });
    expectSameTree(source, asking.path('out'));
    await liar.ok('export', root, 'out');
    expectSameTree(source, liar.path('out'));
    await honest.stop();
    await asking.stop();
    expect(await liar.json('verify', root)).toMatchObject({ sound: true });
  });

  test('verify finds the damage of a store, and with --repair has it whole again from a peer', async () => {
    const count = await damage(liar.home);
    await liar.start();
    await seeEachOther([liar, honest]);
    const found = await liar.run(['verify', root, '--json']);
    expect(found.code).toBe(5);
    expect(JSON.parse(found.out)).toMatchObject({ sound: false, dropped: 0, restored: 0 });
    const repaired = await liar.run(['verify', root, '--repair', '--json']);
    expect(JSON.parse(repaired.out)).toMatchObject({ dropped: count, restored: count });
    await honest.stop();
    expect(await liar.json('verify', root)).toMatchObject({ sound: true });
  });
});
