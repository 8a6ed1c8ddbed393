import { afterEach, describe, expect, test } from 'vitest';
import { expectSameTree, type Result } from '../helpers.ts';
import { sh } from '../mount/mounted.ts';
import { startDelayProxy } from './delay-proxy.ts';
import { HERE, unlessNetworked } from './network.ts';
import { ends, eventually, formCluster, type Node, received, seeEachOther } from './nodes.ts';
import { bytesIn, importFiles, megabytes } from './trees.ts';

const MEGABYTE = 1 << 20;
const SIZE = 110;
/** So that a fault comes in the middle, whatever the machine. */
const MEGABYTES_PER_SECOND = 40;
const MIDDLE = 15 * MEGABYTE;
const NETWORK = 7;
const PORT = 4001;

interface Fault {
  name: string;
  strike(node: Node): void;
  undo(node: Node): unknown;
}

const FAULTS: Fault[] = [
  { name: 'is killed', strike: (node) => void node.kill(), undo: (node) => node.start() },
  { name: 'is paused', strike: (node) => node.pause(), undo: (node) => node.resume() },
  {
    name: 'vanishes without a word',
    strike: ({ machine }) => machine.blackHole(),
    undo: ({ machine }) => machine.plug(),
  },
];

describe.skipIf(unlessNetworked('peers that fail'))('in the middle of a transfer', () => {
  let nodes: Node[] = [];

  afterEach(async () => {
    // The next test is not to be measured by what these still do.
    for (const { machine, resume } of nodes) {
      machine.plug();
      resume();
    }
    await Promise.all(nodes.map(({ daemon }) => daemon().child.kill('SIGKILL')));
    nodes = [];
  });

  /** The last of them is to get what the first, and all others but the last, have. */
  async function setUp(names: readonly string[], size = SIZE): Promise<{ root: string; source: string }> {
    nodes = await formCluster(names);
    const [first, ...others] = nodes;
    const root = await importFiles(first, megabytes(size, 'transfer'), 'tree');
    for (const other of others.slice(0, -1)) await other.ok('prefetch', root);
    for (const { machine } of nodes) machine.limit(MEGABYTES_PER_SECOND);
    return { root, source: first.path('tree') };
  }

  const middle = (node: Node, size = SIZE) =>
    eventually('the middle of the transfer', async () => {
      const bytes = await received(node);
      expect(bytes).toBeLessThan(size * MEGABYTE);
      return bytes > MIDDLE || bytes;
    });

  function expectNetworkError({ code, out, err }: Result): void {
    expect({ code, out, err }).toEqual({
      code: NETWORK,
      out: '',
      err: expect.stringMatching(/^lazytree: [^\n]+\n$/),
    });
  }

  test.each(FAULTS)('a peer $name, and another has it, too', async ({ strike }) => {
    const { root, source } = await setUp(['first', 'second', 'asking']);
    const [first, , asking] = nodes;
    const exporting = asking.begin('export', root, 'out');
    await middle(asking);
    strike(first);
    expect(await ends('an export', exporting)).toMatchObject({ code: 0, err: '' });
    expectSameTree(source, asking.path('out'));
    // What was asked of both may come twice, and no more than that.
    expect(await received(asking)).toBeLessThan(1.5 * SIZE * MEGABYTE);
  });

  test.each(FAULTS)('the only peer $name: errors, no wrong byte, and all of it later', async (fault) => {
    const { root, source } = await setUp(['only', 'asking']);
    const [only, asking] = nodes;
    await asking.ok('mount', root, 'mounted', '--no-prefetch');
    const exporting = asking.begin('export', root, 'out');
    await middle(asking);
    fault.strike(only);
    const [exported, read] = await Promise.all([
      ends('an export', exporting),
      // The last that an export would bring.
      sh(asking, 'cat mounted/d9/f99 | wc -c'),
    ]);
    expectNetworkError(exported);
    expect(bytesIn(asking.path('out'))).toBeLessThan(SIZE * MEGABYTE);
    expect({ ...read, out: read.out.trim() }).toMatchObject({
      out: '0',
      err: expect.stringMatching(/error/),
    });
    await fault.undo(only);
    await seeEachOther(nodes);
    expect(await sh(asking, `cmp mounted/d9/f99 ${source}/d9/f99`)).toMatchObject({ code: 0 });
    await asking.ok('unmount', 'mounted');
    const before = await received(asking);
    expect(await ends('an export', asking.begin('export', root, 'again'))).toMatchObject({
      code: 0,
      err: '',
    });
    expectSameTree(source, asking.path('again'));
    // What had come before was kept.
    expect((await received(asking)) - before).toBeLessThan(SIZE * MEGABYTE - MIDDLE / 2);
  });

  test('a wire that corrupts, and then stalls: no wrong byte, and no reader that waits for ever', async () => {
    const { root, source } = await setUp(['only', 'asking'], 60);
    const other = await importFiles(nodes[0], megabytes(60, 'other'), 'other');
    const [only, asking] = nodes;
    await Promise.all(nodes.map((node) => node.stop()));
    only.machine.isolate();
    asking.machine.isolate();
    const proxy = await startDelayProxy({ host: HERE, target: { host: only.machine.address, port: PORT } });
    await only.start(['--listen', `/ip4/0.0.0.0/tcp/${PORT}`]);
    await asking.start(['--peer', `/ip4/${HERE}/tcp/${proxy.port}`]);
    await seeEachOther(nodes);
    expect(proxy.connections().ever).toBe(1);
    const exporting = asking.begin('export', root, 'out');
    await middle(asking, 60);
    proxy.corrupt('back');
    const { code } = await ends('an export', exporting);
    expect([0, NETWORK]).toContain(code);
    await seeEachOther(nodes);
    expect(proxy.connections().ever).toBeGreaterThan(1);
    expect(await ends('an export', asking.begin('export', root, 'again'))).toMatchObject({
      code: 0,
      err: '',
    });
    expectSameTree(source, asking.path('again'));
    expect(await asking.json('verify', root)).toMatchObject({ sound: true });

    const stalled = asking.begin('export', other, 'other');
    const before = await received(asking);
    await eventually('some of it', async () => (await received(asking)) > before + MIDDLE);
    proxy.stall();
    expectNetworkError(await ends('an export', stalled));
    proxy.flow();
    await seeEachOther(nodes);
    await asking.ok('export', other, 'once-more');
    expectSameTree(only.path('other'), asking.path('once-more'));
    await proxy.close();
  });
});
