import fs from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { expectSameTree } from '../helpers.ts';
import { sh, shOk } from '../mount/mounted.ts';
import { unlessNetworked } from './network.ts';
import { formCluster, type Node, peerOf, received, seeEachOther } from './nodes.ts';
import { digest, importFiles, UNREAD_BYTES, WORKSPACE } from './trees.ts';

/** What crosses beside the bytes that were read: nodes of directories, files beside those that were read. */
const OVERHEAD = 1 << 20;
const UNKNOWN = 'bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae';

describe.skipIf(unlessNetworked('clusters of two'))('two machines and a third', () => {
  let anna: Node;
  let bert: Node;
  let carl: Node;
  let root: string;

  beforeAll(async () => {
    [anna, bert, carl] = await formCluster(['anna', 'bert', 'carl']);
    root = await importFiles(anna, WORKSPACE, 'app');
  });

  test('know each other by name, address and latency', async () => {
    const { self } = await anna.peers();
    expect(self.name).toBe('anna');
    expect(self.addresses.join()).toContain(`/ip4/${anna.machine.address}/tcp/`);
    const seen = await peerOf(bert, anna);
    expect(seen).toMatchObject({ id: self.id, name: 'anna', connected: true });
    expect(seen.addresses.join()).toContain(`/ip4/${anna.machine.address}/tcp/`);
    expect(seen.latency).toBeGreaterThan(0);
    expect(seen.latency).toBeLessThan(1000);
  });

  test('what one has imported, the other mounts by its root, and only what is read crosses', async () => {
    const before = await received(bert);
    await bert.ok('mount', root, 'mounted');
    expect(await shOk(bert, 'ls -lR mounted | grep -c ^-')).toBe('311\n');
    expect(await shOk(bert, 'mounted/bin/run')).toBe('42\n');
    const crossed = (await received(bert)) - before;
    expect(crossed).toBeGreaterThan(1000);
    expect(crossed).toBeLessThan(OVERHEAD);
    expect(await shOk(bert, 'cat mounted/assets/a3/picture | sha256sum')).toBe(
      await shOk(anna, 'cat app/assets/a3/picture | sha256sum'),
    );
    const more = (await received(bert)) - before - crossed;
    expect(more).toBeGreaterThanOrEqual(2 << 20);
    expect(more).toBeLessThan((2 << 20) + OVERHEAD);
    // Each of them counts what the other does; only pings come in between.
    const [sent, got] = [(await peerOf(anna, bert)).sent, (await peerOf(bert, anna)).received];
    expect(Math.abs(sent - got)).toBeLessThan(10_000);
    await bert.ok('unmount', 'mounted');
  });

  test('commands find a tree by root, by its name, and by its name at a peer', async () => {
    const { id } = (await anna.peers()).self;
    const trees = [root, 'app', 'app@anna', `app@${id}`, `app@${id.slice(0, 8)}`];
    for (const tree of trees)
      expect(await carl.ok('cat', `${tree}/lib/answer.js`)).toBe('module.exports = 42;');
    expect(await carl.ok('ls', 'app/src')).toBe('index.js');
    await carl.ok('mount', 'app@anna', 'by-name');
    expect(await shOk(carl, 'readlink by-name/link.js; by-name/bin/run')).toBe('src/index.js\n42\n');
    await carl.ok('unmount', 'by-name');
  });

  test('what nobody has is not found', async () => {
    for (const tree of [UNKNOWN, 'nothing', 'nothing@anna', 'app@nobody']) {
      const { code, out, err } = await bert.run(['ls', tree]);
      expect({ tree, code, out }).toEqual({ tree, code: 4, out: '' });
      expect(err).toMatch(/^lazytree: [^\n]+\n$/);
    }
  });

  test('a member without its daemon starts it for what a peer may have, and for nothing else', async () => {
    await bert.stop();
    const { code, err } = await bert.run(['import', 'nothing-there']);
    expect([code, err]).toEqual([4, expect.stringMatching(/nothing-there/)]);
    expect((await bert.run(['daemon', 'status'])).code).toBe(4);
    expect(await bert.ok('ls', 'app/src')).toBe('index.js');
    expect((await bert.run(['daemon', 'status'])).code).toBe(0);
    await bert.ok('daemon', 'stop');
    expect(await bert.ok('ref', 'list', '--cluster')).toContain('app@anna');
    await bert.ok('daemon', 'stop');
    await bert.start();
    await seeEachOther([anna, bert, carl]);
  });

  test('an export is equal, and is served on when the first is gone', async () => {
    await bert.ok('export', 'app', 'exported');
    expectSameTree(anna.path('app'), bert.path('exported'));
    await anna.stop();
    const before = await received(carl);
    await carl.ok('export', root, 'exported');
    expectSameTree(anna.path('app'), carl.path('exported'));
    expect((await received(carl)) - before).toBeGreaterThan(UNREAD_BYTES);
    await anna.start();
    await seeEachOther([anna, bert, carl]);
  });

  test('of a tree that has changed since it was exported, only what has changed crosses', async () => {
    const files = Object.fromEntries(
      Array.from({ length: 6000 }, (_, i) => [`d${i % 400}/${digest(Buffer.from(`${i}`))}`, `${i}`]),
    );
    const first = await importFiles(anna, files, 'many');
    await bert.ok('export', first, 'many');
    const before = await received(bert);
    const second = await importFiles(anna, { 'd7/new': 'new\n' }, 'many');
    await bert.ok('export', second, 'many', '--update');
    expectSameTree(anna.path('many'), bert.path('many'));
    // The node of the root, which names all directories, and that of one of them.
    expect((await received(bert)) - before).toBeLessThan(60_000);
    fs.appendFileSync(bert.path('many/d7/new'), 'edited');
    // The second one finds what the first has made of it, however early it looks.
    await Promise.all([first, second].map((tree) => bert.ok('export', tree, 'many', '--update')));
    expect([first, second]).toContain(await bert.ok('import', 'many'));
  });

  test('a workspace of a peer’s tree runs, and what it saves is had by the peer', async () => {
    await carl.run(['gc']);
    await carl.ok('workspace', 'create', 'work', '--from', 'app@anna');
    expect(await shOk(carl, 'work/bin/run')).toBe('42\n');
    await shOk(carl, 'echo "module.exports = 43;" > work/lib/answer.js');
    expect(await shOk(carl, 'work/bin/run')).toBe('43\n');
    const saved = await carl.ok('workspace', 'save', 'work');
    expect(saved).not.toBe(root);
    const before = await received(anna);
    await anna.ok('export', saved, 'saved');
    expectSameTree(carl.path('work'), anna.path('saved'));
    // It has all but what was changed.
    expect((await received(anna)) - before).toBeLessThan(OVERHEAD / 10);
    await carl.ok('workspace', 'remove', 'work');
  });

  test('prefetch brings a tree, which is then there with nobody else', async () => {
    const rest = await importFiles(anna, { 'only/here': 'x'.repeat(100_000) }, 'rest');
    expect(await bert.json('prefetch', 'rest@anna')).toMatchObject({ files: 1, bytes: 100_000 });
    anna.machine.unplug();
    carl.machine.unplug();
    await bert.ok('mount', rest, 'rest');
    expect(await shOk(bert, 'wc -c < rest/only/here')).toBe('100000\n');
    await bert.ok('unmount', 'rest');
    anna.machine.plug();
    carl.machine.plug();
    await seeEachOther([anna, bert, carl]);
  });

  test('who has left gets nothing, and is missed by nobody', async () => {
    const last = await importFiles(anna, { 'last/file': 'last\n' }, 'last');
    await carl.ok('cluster', 'leave');
    const { code, err } = await carl.run(['cat', `${last}/last/file`]);
    expect(code).toBe(4);
    expect(err).not.toBe('');
    expect((await sh(carl, `grep -r ${last} home || true`)).out).toBe('');
    expect(await bert.ok('cat', `${last}/last/file`)).toBe('last');
    expect(fs.existsSync(carl.path('app/last'))).toBe(false);
  });
});
