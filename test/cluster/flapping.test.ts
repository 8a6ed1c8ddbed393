import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { expectSameTree } from '../helpers.ts';
import { unlessNetworked } from './network.ts';
import { ends, formCluster, received, seeEachOther } from './nodes.ts';
import { importFiles, megabytes } from './trees.ts';

const SIZE = 60;
const NETWORK = 7;

describe.skipIf(unlessNetworked('networks that come and go'))('a cable that is loose', () => {
  test('delays an export, and harms nothing', async () => {
    const nodes = await formCluster(['far', 'near']);
    const [far, near] = nodes;
    const root = await importFiles(far, megabytes(SIZE, 'flapping'), 'tree');
    far.machine.limit(20);
    let isLoose = true;
    const flapping = (async () => {
      for (let i = 0; i < 4; i++) {
        await sleep(900);
        if (i % 2 === 0) far.machine.unplug();
        else near.machine.blackHole();
        await sleep(1100);
        far.machine.plug();
        near.machine.plug();
      }
      isLoose = false;
    })();
    let whole = 0;
    for (let i = 0; isLoose || whole === 0; i++) {
      const { code, err } = await ends('an export', near.begin('export', root, `out${i}`));
      expect([0, NETWORK], err).toContain(code);
      if (code === 0) {
        whole++;
        expectSameTree(far.path('tree'), near.path(`out${i}`));
      }
      await sleep(100);
    }
    await flapping;
    await seeEachOther(nodes);
    expect(await near.json('verify', root)).toMatchObject({ sound: true });
    expect(await received(near)).toBeLessThan(2 * SIZE * 2 ** 20);
  });
});
