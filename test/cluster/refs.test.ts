import fs from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { expectSameTree, pseudoRandom, writeFiles } from '../helpers.ts';
import { unlessNetworked } from './network.ts';
import { ends, eventually, formCluster, type Node, received } from './nodes.ts';
import { importFiles } from './trees.ts';

interface ClusterRef {
  name: string;
  root: string;
  sequence: number;
  owner: string;
  ownerName: string;
}

describe.skipIf(unlessNetworked('refs of a cluster'))('refs', () => {
  let anna: Node;
  let bert: Node;

  beforeAll(async () => {
    [anna, bert] = await formCluster(['anna', 'bert']);
  });

  const refs = async (node: Node) =>
    (await node.json<{ refs: ClusterRef[] }>('ref', 'list', '--cluster')).refs;

  test('are seen by the others, with whose they are and how often they were set', async () => {
    const first = await importFiles(anna, { file: 'one\n' }, 'seen');
    const { id } = (await anna.peers()).self;
    const expected = { name: 'seen', root: first, sequence: 1, owner: id, ownerName: 'anna' };
    await eventually('bert sees it', async () => (await refs(bert)).some(({ name }) => name === 'seen'));
    expect(await refs(bert)).toContainEqual(expect.objectContaining(expected));
    expect(await bert.ok('ref', 'list', '--cluster')).toMatch(new RegExp(`seen@anna .*${first}`));
    const second = await importFiles(anna, { file: 'two\n' }, 'seen');
    expect(second).not.toBe(first);
    await eventually('bert sees the second', async () => {
      const found = (await refs(bert)).find(({ name }) => name === 'seen');
      return (found?.root === second && found.sequence === 2) || found;
    });
    expect(await bert.ok('cat', 'seen@anna/file')).toBe('two');
  });

  test('of the same name at two peers are told apart', async () => {
    await importFiles(anna, { file: 'of anna\n' }, 'same');
    await importFiles(bert, { file: 'of bert\n' }, 'same');
    for (const node of [anna, bert]) {
      expect(await node.ok('cat', 'same@anna/file')).toBe('of anna');
      expect(await node.ok('cat', 'same@bert/file')).toBe('of bert');
      // One's own comes first.
      expect(await node.ok('cat', 'same/file')).toBe(`of ${node.name}`);
    }
  });

  test('name no peer by less than eight characters of its id', async () => {
    await importFiles(anna, { file: 'short\n' }, 'short');
    const { id } = (await anna.peers()).self;
    expect(await bert.ok('cat', `short@${id.slice(0, 12)}/file`)).toBe('short');
    const { code, out } = await bert.run(['cat', `short@${id.slice(0, 7)}/file`]);
    expect(out).toBe('');
    expect([2, 4]).toContain(code);
  });

  test('that are removed are gone for the others', async () => {
    await importFiles(anna, { file: 'gone\n' }, 'gone');
    expect(await bert.ok('cat', 'gone@anna/file')).toBe('gone');
    await anna.ok('ref', 'rm', 'gone');
    await eventually('bert no longer sees it', async () =>
      (await refs(bert)).every(({ name }) => name !== 'gone'),
    );
    expect((await bert.run(['cat', 'gone@anna/file'])).code).toBe(4);
  });

  test('export --follow keeps a directory at a ref, and touches only what differs', async () => {
    const big = pseudoRandom(4 << 20, 'followed');
    const first = await importFiles(anna, { 'a/one': 'one\n', 'b/two': 'two\n', 'c/big': big }, 'live');
    const { child, ended } = bert.begin('export', 'live@anna', 'out', '--follow');
    let printed = '';
    child.stdout?.on('data', (part) => {
      printed += part;
    });
    await eventually('the first root', () => printed === `${first}\n` || printed);
    expectSameTree(anna.path('live'), bert.path('out'));
    const stamp = (name: string) => {
      const { ino, mtimeNs, ctimeNs } = fs.statSync(bert.path(`out/${name}`), { bigint: true });
      return [ino, mtimeNs, ctimeNs].join();
    };
    const [one, unchanged] = [stamp('a/one'), stamp('c/big')];
    const before = await received(bert);
    writeFiles(anna.path('live'), { 'a/one': 'changed\n', 'd/new': 'new\n' });
    fs.rmSync(anna.path('live/b'), { recursive: true });
    const second = await anna.ok('import', 'live', '--name', 'live');
    await eventually('the second root', () => printed === `${first}\n${second}\n` || printed);
    expectSameTree(anna.path('live'), bert.path('out'));
    expect(stamp('c/big')).toBe(unchanged);
    expect(stamp('a/one')).not.toBe(one);
    expect((await received(bert)) - before).toBeLessThan(100_000);
    // The publisher goes and comes back.
    await anna.kill();
    await anna.start();
    writeFiles(anna.path('live'), { 'a/one': 'after a crash\n' });
    const third = await anna.ok('import', 'live', '--name', 'live');
    await eventually('the third root', () => printed.endsWith(`\n${third}\n`) || printed);
    expectSameTree(anna.path('live'), bert.path('out'));
    // A ref that is removed takes nothing away.
    await anna.ok('ref', 'rm', 'live');
    await eventually('it is gone', async () => (await refs(bert)).every(({ name }) => name !== 'live'));
    expectSameTree(anna.path('live'), bert.path('out'));
    child.kill('SIGINT');
    const { code, signal, out } = await ends('export --follow', { child, ended });
    expect({ code, signal, out }).toEqual({
      code: 130,
      signal: null,
      out: `${first}\n${second}\n${third}\n`,
    });
  });
});
