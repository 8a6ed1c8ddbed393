import { describe, expect, test } from 'vitest';
import { expectSameTree, mounted, sandbox } from '../helpers.ts';
import { shOk } from '../mount/mounted.ts';
import { unlessNetworked } from './network.ts';
import { addNode, ends, joinAll } from './nodes.ts';
import { importFiles, megabytes } from './trees.ts';

const SIZE = 60;

describe.skipIf(unlessNetworked('nodes with full disks'))('a node with no room for what it reads', () => {
  test('reads it all the same, from a mount and for an export', async () => {
    const elsewhere = sandbox();
    const small = mounted(elsewhere.path('small'), '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs');
    const [roomy, full] = await Promise.all([addNode('roomy'), addNode('full', { directory: small })]);
    await joinAll([roomy, full]);
    const root = await importFiles(roomy, megabytes(SIZE, 'full'), 'tree');
    await full.ok('mount', root, elsewhere.path('mounted'));
    await shOk(elsewhere, `diff -r mounted ${roomy.path('tree')}`);
    await full.ok('unmount', elsewhere.path('mounted'));
    const exporting = full.begin('export', root, elsewhere.path('out'));
    expect(await ends('an export', exporting)).toMatchObject({
      code: 0,
      err: expect.stringMatching(/^(lazytree: warning: [^\n]*no space left[^\n]*\n)?$/),
    });
    expectSameTree(roomy.path('tree'), elsewhere.path('out'));
    expect((await full.peers()).peers).toMatchObject([{ name: 'roomy', connected: true }]);
  });
});
