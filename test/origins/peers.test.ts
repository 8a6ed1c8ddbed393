import fs from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { unlessNetworked } from '../cluster/network.ts';
import { formCluster, type Node } from '../cluster/nodes.ts';
import { pseudoRandom } from '../helpers.ts';
import { shOk } from '../mount/mounted.ts';
import { archiveOf, compositionIn } from './archives.ts';

describe.skipIf(unlessNetworked('origins in clusters'))('what one machine has resolved', () => {
  let anna: Node;
  let bert: Node;
  let carl: Node;
  const places: Record<string, { file: string; bytes: Buffer }> = {};

  /** A pinned origin that all machines can reach, until it is taken away. */
  function archive(name: string): string {
    const { bytes, integrity } = archiveOf(anna, name, {
      'read.me': `${name}\n`,
      large: pseudoRandom(600_000, name),
    });
    const file = anna.path(`${name}.tgz`);
    fs.writeFileSync(file, bytes);
    places[name] = { file, bytes };
    return `tar:${file}#${integrity}`;
  }

  beforeAll(async () => {
    [anna, bert, carl] = await formCluster(['anna', 'bert', 'carl']);
    const tree = Object.fromEntries(['one', 'two', 'three'].map((name) => [name, archive(name)]));
    // Where nobody listens, and nobody is to be asked.
    const far = tree.one.replace(/^tar:.*#/, 'tar:http://127.0.0.1:9/far.tgz#');
    await anna.ok(
      'compose',
      compositionIn(anna, 'app.json', { ...tree, far: far.replace(/.{8}==$/, 'AAAAAAAA==') }),
      '--name',
      'app',
    );
  });

  test('the others need not fetch: neither for a mount, nor by its reference', async () => {
    expect(await anna.ok('cat', 'app/one/read.me')).toBe('one');
    fs.rmSync(places.one.file);
    await bert.ok('mount', 'app@anna', 'there');
    expect(await shOk(bert, 'ls there; cat there/one/read.me')).toBe('far\none\nthree\ntwo\none\n');
    expect(await bert.ok('why', 'app@anna/one/large')).toMatch(
      /^one: tar:\S+one\.tgz \(sha512-\S+\) from peer anna/,
    );
    const { integrity } = await anna.json<{ integrity: string }>('stat', 'app/one');
    expect(await carl.ok('ls', `tar:${places.one.file}#${integrity}`)).toBe('large\nread.me');
    const offline = await carl.run(['ls', '--offline', 'app@anna/far']);
    expect([offline.code, offline.err]).toEqual([7, expect.stringContaining('offline, and tar:http')]);
  });

  test('nobody has resolved is fetched by whoever wants it', async () => {
    expect(await shOk(bert, 'cat there/two/read.me')).toBe('two\n');
    expect(await bert.ok('why', 'app@anna/two/read.me')).toMatch(
      /^two: tar:\S+two\.tgz \(sha512-\S+\) from its origin/,
    );
  });

  test('and nobody delivers is fetched from where it came from', async () => {
    expect(await anna.ok('cat', 'app/three/read.me')).toBe('three');
    // Its nodes come from the peer, and no content.
    expect(await shOk(bert, 'ls there/three')).toBe('large\nread.me\n');
    expect(await bert.ok('why', 'app@anna/three')).toMatch(/from peer anna/);
    await anna.kill();
    await carl.stop();
    expect(await shOk(bert, 'cat there/three/large | wc -c')).toBe('600000\n');
    expect(await bert.ok('why', `${await mountedRoot(bert)}/three`)).toMatch(/from its origin/);
  });

  async function mountedRoot(node: Node): Promise<string> {
    return (await node.json<{ mounts: { root: string }[] }>('mounts')).mounts[0].root;
  }
});
