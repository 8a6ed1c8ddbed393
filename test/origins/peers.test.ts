import fs from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from '../../packages/core/test/helpers.ts';
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

  /** Of what is larger, no more comes from a peer than is read. */
  const MOST_AT_ONCE = 8 << 20;

  /** A pinned origin that all machines can reach, until it is taken away. */
  function archive(name: string, size = 600_000): string {
    const { bytes, integrity } = archiveOf(anna, name, {
      'read.me': `${name}\n`,
      large: pseudoRandom(size, name),
    });
    const file = anna.path(`${name}.tgz`);
    fs.writeFileSync(file, bytes);
    places[name] = { file, bytes };
    return `tar:${file}#${integrity}`;
  }

  beforeAll(async () => {
    [anna, bert, carl] = await formCluster(['anna', 'bert', 'carl']);
    const tree: Record<string, string> = {
      ...Object.fromEntries(['one', 'two', 'three'].map((name) => [name, archive(name)])),
      huge: archive('huge', MOST_AT_ONCE),
    };
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
    expect(await shOk(bert, 'ls there; cat there/one/read.me')).toBe('far\nhuge\none\nthree\ntwo\none\n');
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

  test('and nobody delivers is fetched from where it came from; what is little has come whole', async () => {
    for (const name of ['three', 'huge']) {
      expect(await anna.ok('cat', `app/${name}/read.me`)).toBe(name);
      expect(await shOk(bert, `ls there/${name}`)).toBe('large\nread.me\n');
      expect(await bert.ok('why', `app@anna/${name}`)).toMatch(/from peer anna/);
    }
    fs.rmSync(places.three.file);
    await anna.kill();
    await carl.stop();
    expect(await shOk(bert, 'cat there/three/large | sha256sum')).toBe(
      `${sha256(pseudoRandom(600_000, 'three'))}  -\n`,
    );
    expect(await bert.ok('why', `${await mountedRoot(bert)}/three`)).toMatch(/from peer anna/);
    expect(await shOk(bert, 'cat there/huge/large | wc -c')).toBe(`${MOST_AT_ONCE}\n`);
    expect(await bert.ok('why', `${await mountedRoot(bert)}/huge`)).toMatch(/from its origin/);
  });

  async function mountedRoot(node: Node): Promise<string> {
    return (await node.json<{ mounts: { root: string }[] }>('mounts')).mounts[0].root;
  }
});
