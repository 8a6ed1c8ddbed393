import { beforeAll, describe, expect, test } from 'vitest';
import { expectSameTree, type Result } from '../helpers.ts';
import { sh } from '../mount/mounted.ts';
import { startDelayProxy } from './delay-proxy.ts';
import { HERE, unlessNetworked } from './network.ts';
import { addNode, ends, eventually, formCluster, type Node, received, seeEachOther } from './nodes.ts';
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
  let first: Node;
  let second: Node;
  let root: string;
  let source: string;
  let asked = 0;

  beforeAll(async () => {
    [first, second] = await formCluster(['first', 'second']);
    root = await importFiles(first, megabytes(SIZE, 'transfer'), 'tree');
    source = first.path('tree');
    await second.ok('prefetch', root);
    for (const { machine } of [first, second]) machine.limit(MEGABYTES_PER_SECOND);
  });

  /** A new member that has nothing yet, and is connected to all of these. */
  async function addAsking(...others: Node[]): Promise<Node> {
    const asking = await addNode(`asking${++asked}`);
    await asking.ok('cluster', 'join', await others[0].ok('cluster', 'invite'));
    await seeEachOther([asking, ...others]);
    return asking;
  }

  const middle = (node: Node) =>
    eventually('the middle of the transfer', async () => {
      const bytes = await received(node);
      expect(bytes).toBeLessThan(SIZE * MEGABYTE);
      return bytes > MIDDLE || bytes;
    });

  function expectNetworkError({ code, out, err }: Result): void {
    expect({ code, out, err }).toEqual({
      code: NETWORK,
      out: '',
      err: expect.stringMatching(/^lazytree: [^\n]+\n$/),
    });
  }

  async function expectWhole(node: Node, directory: string): Promise<void> {
    expect(await ends('an export', node.begin('export', root, directory))).toMatchObject({
      code: 0,
      err: '',
    });
    expectSameTree(source, node.path(directory));
  }

  test.each(FAULTS)('a peer $name, and another has it, too', async ({ strike, undo }) => {
    const asking = await addAsking(first, second);
    const exporting = asking.begin('export', root, 'out');
    await middle(asking);
    strike(first);
    expect(await ends('an export', exporting)).toMatchObject({ code: 0, err: '' });
    expectSameTree(source, asking.path('out'));
    // What was asked of both may come twice, and no more than that.
    expect(await received(asking)).toBeLessThan(1.5 * SIZE * MEGABYTE);
    await undo(first);
    await asking.stop();
  });

  describe('of the only peer', () => {
    beforeAll(() => second.stop());

    test.each(FAULTS)('that $name: errors, no wrong byte, and all of it later', async (fault) => {
      const asking = await addAsking(first);
      await asking.ok('mount', root, 'mounted', '--no-prefetch');
      const exporting = asking.begin('export', root, 'out');
      await middle(asking);
      fault.strike(first);
      const [exported, read] = await Promise.all([
        ends('an export', exporting),
        // The last that an export would bring.
        sh(asking, 'cat mounted/d9/f99 | wc -c'),
      ]);
      expectNetworkError(exported);
      expect(bytesIn(asking.path('out'))).toBeLessThan(SIZE * MEGABYTE);
      expect({ out: read.out.trim(), err: read.err }).toEqual({
        out: '0',
        err: expect.stringMatching(/error/),
      });
      await fault.undo(first);
      await seeEachOther([asking, first]);
      expect(await sh(asking, `cmp mounted/d9/f99 ${source}/d9/f99`)).toMatchObject({ code: 0 });
      await asking.ok('unmount', 'mounted');
      const before = await received(asking);
      await expectWhole(asking, 'again');
      // What had come before was kept.
      expect((await received(asking)) - before).toBeLessThan(SIZE * MEGABYTE - MIDDLE / 2);
      await asking.stop();
    });

    test.each(['corrupts', 'stalls'] as const)('over a wire that %s: the right bytes later', async (what) => {
      const asking = await addAsking(first);
      await Promise.all([first, asking].map((node) => node.stop()));
      first.machine.isolate();
      asking.machine.isolate();
      const target = { host: first.machine.address, port: PORT };
      const proxy = await startDelayProxy({ host: HERE, target });
      await first.start(['--listen', `/ip4/0.0.0.0/tcp/${PORT}`]);
      await asking.start(['--peer', `/ip4/${HERE}/tcp/${proxy.port}`]);
      await seeEachOther([asking, first]);
      expect(proxy.connections().ever).toBe(1);
      const exporting = asking.begin('export', root, 'out');
      await middle(asking);
      if (what === 'stalls') proxy.stall();
      else proxy.corrupt('back');
      const result = await ends('an export', exporting);
      if (what === 'stalls') {
        expectNetworkError(result);
        proxy.flow();
      } else expect([0, NETWORK]).toContain(result.code);
      await seeEachOther([asking, first]);
      expect(proxy.connections().ever).toBeGreaterThan(1);
      await expectWhole(asking, 'again');
      expect(await asking.json('verify', root)).toMatchObject({ sound: true });
      await asking.stop();
      await proxy.close();
    });
  });
});
