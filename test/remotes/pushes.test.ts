import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { ends, eventually } from '../cluster/nodes.ts';
import { BIN, type Files, pseudoRandom, type Result, type Sandbox, start, writeFiles } from '../helpers.ts';
import { unlessMountable } from '../mount/mountable.ts';
import {
  bytesAt,
  destroy,
  expectSame,
  KINDS,
  newMachine,
  objectsIn,
  openPlace,
  type Place,
} from './places.ts';

const MEGABYTE = 1 << 20;
/** A push that goes on for some packs. */
const LARGE: Files = Object.fromEntries(
  Array.from({ length: 36 }, (_, i) => [`d${i % 4}/f${i}`, pseudoRandom(MEGABYTE, `large ${i}`)]),
);
const SMALL: Files = Object.fromEntries(
  Array.from({ length: 200 }, (_, i) => [`d${i % 9}/f${i}`, `file ${i}\n`]),
);

function begin(box: Sandbox, place: Place, ...args: string[]): ReturnType<typeof start> {
  return start([process.execPath, BIN, ...args], { home: box.home, cwd: box.directory, env: place.env });
}

function refusal({ code, out, err }: Result): string {
  expect({ code, out }).toEqual({ code: 8, out: '' });
  expect(err).toMatch(/^lazytree: [^\n]+\n$/);
  return err;
}

describe.skipIf(unlessMountable('pushes')).each(KINDS)('pushes: %s', (kind) => {
  let place: Place;
  beforeAll(async () => {
    place = await openPlace(kind);
  });

  describe('of one machine and another', () => {
    let ana: Sandbox;
    let ben: Sandbox;
    let first: string;

    async function change(box: Sandbox, content: string): Promise<string> {
      writeFiles(box.path('app'), { 'd1/changed': content });
      return box.ok('import', 'app', '--name', 'app');
    }

    beforeAll(async () => {
      ana = await newMachine(place);
      ben = await newMachine(place);
      writeFiles(ana.path('app'), { ...SMALL, large: pseudoRandom(8 * MEGABYTE, 'one') });
      first = await ana.ok('import', 'app', '--name', 'app');
    });

    test('the second sends nothing, and a change little', async () => {
      const pushed = await ana.json('push', 'app', 'r', '-m', 'one');
      expect(pushed).toMatchObject({ root: first, remote: 'r', name: 'app', changed: true });
      expect(pushed.bytes).toBeGreaterThan(8 * MEGABYTE);
      const before = await objectsIn(place);
      const again = await ana.json('push', 'app', 'r');
      expect(again).toEqual({
        root: first,
        remote: 'r',
        name: 'app',
        changed: false,
        blocks: 0,
        bytes: 0,
        packs: 0,
        traffic: { requests: expect.any(Number), sent: 0, received: expect.any(Number) },
      });
      expect(await objectsIn(place)).toEqual(before);
      const bytes = await bytesAt(place);
      const changed = await change(ana, 'of ana\n');
      expect(await ana.json('push', 'app', 'r')).toMatchObject({ root: changed, blocks: 3, packs: 1 });
      expect((await bytesAt(place)) - bytes).toBeLessThan(20_000);
    });

    test('who does not know what a name stands for does not move it', async () => {
      expect(await ben.ok('pull', 'app', 'r')).toBe(await ana.ok('ref', 'get', 'app'));
      await ben.ok('export', 'app', 'app');
      const mine = await change(ben, 'of ben\n');
      expect(await ben.ok('push', 'app', 'r')).toBe(mine);
      const other = await change(ana, 'of ana, too\n');
      const before = await objectsIn(place, 'refs/');
      const said = refusal(await ana.run(['push', 'app', 'r']));
      expect(said).toMatch(/'app' of (azure|file):\/\/\S+.* was moved by \w+@\S+ at \d{4}-\S+, to bafy/);
      expect(said).toContain(mine);
      const json = await ana.run(['push', 'app', 'r', '--json']);
      expect(JSON.parse(json.err)).toMatchObject({
        error: { code: 'REFUSED', message: expect.stringContaining(mine) },
      });
      expect(await objectsIn(place, 'refs/')).toEqual(before);
      // What is here and not there is not given up without a word either.
      refusal(await ana.run(['pull', 'app', 'r']));
      await ana.ok('pull', 'app', 'r', '--force');
      const next = await change(ana, 'of both\n');
      expect(next).not.toBe(other);
      expect(await ana.ok('push', 'app', 'r')).toBe(next);
      refusal(await ben.run(['push', 'app', 'r']));
      expect(await ben.ok('push', 'app', 'r', '--force')).toBe(mine);
      const { snapshots } = await ben.json<{ snapshots: { root: string }[] }>('log', 'app', '--remote', 'r');
      expect(snapshots.map(({ root }) => root).slice(0, 2)).toEqual([mine, next]);
    });

    test('a tree without a name is pinned there', async () => {
      const root = await ana.ok('import', writeFiles(ana.path('unnamed'), { file: 'unnamed\n' }));
      expect(await ana.json('push', root, 'r')).toMatchObject({ root, name: null, changed: true });
      expect(await ben.json('pin', 'list', '--remote', 'r')).toMatchObject({ pins: [{ root }] });
      expect(await ben.ok('cat', `${root}/file`)).toBe('unnamed');
      await ben.ok('pin', 'rm', root, '--remote', 'r');
      expect(await ben.ok('pin', 'list', '--remote', 'r')).toBe('');
      expect((await ben.run(['pin', 'rm', root, '--remote', 'r'])).code).toBe(4);
    });

    test('a name that was removed can be had again', async () => {
      await ben.ok('ref', 'rm', 'app', '--remote', 'r');
      expect((await ben.run(['ref', 'rm', 'app', '--remote', 'r'])).code).toBe(4);
      expect((await ben.run(['pull', 'app', 'r'])).code).toBe(4);
      expect(await ana.json('push', 'app', 'r')).toMatchObject({ blocks: 0, changed: true });
    });

    test('two that push the same name at once: one is told of the other', async () => {
      const roots = [await change(ana, 'race a\n'), await change(ben, 'race b\n')];
      await ana.ok('pull', 'app', 'r', '--name', 'app', '--force');
      await ben.ok('pull', 'app', 'r', '--name', 'app', '--force');
      await ana.ok('ref', 'set', 'app', roots[0]);
      await ben.ok('ref', 'set', 'app', roots[1]);
      const results = await Promise.all([ana, ben].map((box) => box.run(['push', 'app', 'r'])));
      const codes = results.map(({ code }) => code);
      expect([...codes].sort()).toEqual([0, 8]);
      const won = codes.indexOf(0);
      expect(refusal(results[1 - won])).toContain(roots[won]);
      expect(await ana.json('ref', 'list', '--remote', 'r')).toMatchObject({
        refs: [{ name: 'app', root: roots[won] }],
      });
    });
  });

  test('one that is killed again and again leaves nothing that is not whole, and is done in the end', async () => {
    const own = await place.another();
    const ana = await newMachine(own);
    writeFiles(ana.path('app'), LARGE);
    const root = await ana.ok('import', 'app', '--name', 'app');
    const whole = await place.another();
    const bystander = await newMachine(whole, undefined);
    writeFiles(bystander.path('app'), LARGE);
    await bystander.ok('import', 'app', '--name', 'app');
    const began = performance.now();
    await bystander.ok('push', 'app', 'r');
    const took = performance.now() - began;
    const reader = await newMachine(own);
    const before = (await objectsIn(own)).size;
    let ended = 0;
    for (let i = 0; i < 4; i++) {
      const { child, ended: end } = begin(ana, own, 'push', 'app', 'r');
      // The first one when it has sent something and not all, however busy the machine is.
      if (i === 0) while ((await objectsIn(own)).size === before) await sleep(2);
      else await sleep(took * (0.15 + Math.random() * 0.85));
      child.kill('SIGKILL');
      if ((await end).signal === null) ended += 1;
      const there = [...(await objectsIn(own)).keys()];
      const visible = there.some((name) => name.startsWith('refs/'));
      if (!visible) expect((await reader.run(['ls', 'app@r'])).code).toBe(4);
      else expect((await reader.ok('ls', 'app@r')).split('\n')).toEqual(['d0/', 'd1/', 'd2/', 'd3/']);
      const checks = await reader.json<{ ok: boolean }>('remote', 'validate', 'r', '--deep');
      expect(checks.ok).toBe(true);
    }
    expect(ended).toBeLessThan(4);
    expect(await ana.ok('push', 'app', 'r')).toBe(root);
    // The same as one that was never interrupted: no pack twice, and none that is not of use.
    const packs = await objectsIn(whole, 'packs/');
    expect(await objectsIn(own, 'packs/')).toEqual(packs);
    expect(packs.size).toBeGreaterThan(2);
    const fresh = await newMachine(own);
    await fresh.ok('mount', 'app@r', 'mounted');
    await expectSame(fresh, ana.path('app'), 'mounted');
    await fresh.ok('unmount', 'mounted');
  });

  test('two machines push the same workspace at once, and both are right', async () => {
    const own = await place.another();
    const boxes = [await newMachine(own), await newMachine(own)];
    const roots = await Promise.all(
      boxes.map((box) => box.ok('import', writeFiles(box.path('app'), LARGE), '--name', 'app')),
    );
    const [a, b] = await Promise.all(boxes.map((box) => box.ok('push', 'app', 'r')));
    expect([a, b]).toEqual(roots);
    const { snapshots } = await boxes[0].json<{ snapshots: unknown[] }>('log', 'app', '--remote', 'r');
    expect(snapshots.length).toBe(1);
    expect((await objectsIn(own, 'packs/')).size).toBeLessThan(5);
    expect(await bytesAt(own)).toBeLessThan(37 * MEGABYTE);
    const fresh = await newMachine(own);
    await fresh.ok('export', 'app@r', 'exported');
    await expectSame(fresh, boxes[0].path('app'), 'exported');
  });

  test.runIf(kind === 'directory')('many small ones are put together, and all history stays', async () => {
    const own = await place.another();
    const ana = await newMachine(own);
    const roots: string[] = [];
    for (let i = 0; i < 12; i++) {
      writeFiles(ana.path('app'), { [`file-${i}`]: randomBytes(5000).toString('hex') });
      roots.push(await ana.ok('import', 'app', '--name', 'app'));
      expect(await ana.ok('push', 'app', 'r', '--keep', 'last=20')).toBe(roots[i]);
    }
    expect((await objectsIn(own, 'index/')).size).toBeLessThan(10);
    expect(await ana.json('remote', 'validate', 'r', '--deep')).toMatchObject({ ok: true });
    await destroy(ana);
    const ben = await newMachine(own);
    const { snapshots } = await ben.json<{ snapshots: { root: string }[] }>('log', 'app', '--remote', 'r');
    expect(snapshots.map(({ root }) => root)).toEqual(roots.reverse());
    for (const [i, root] of [...roots].reverse().entries())
      expect((await ben.ok('ls', root)).split('\n').length).toBe(i + 1);
  });

  test.runIf(kind === 'azure')(
    'workspaces push what they save by themselves, and say what is wrong',
    async () => {
      const own = await place.another();
      const ana = await newMachine(own);
      writeFiles(ana.path('app'), SMALL);
      await ana.ok('import', 'app', '--name', 'app');
      await ana.ok(
        'workspace',
        'create',
        'work',
        '--from',
        'app',
        '--remote',
        'r',
        '--autosave',
        '1s',
        '--keep',
        'last=2',
      );
      const ben = await newMachine(own);
      const arrived = (content: string) => async () => {
        const { out } = await ben.run(['cat', 'work@r/note']);
        return out === `${content}\n` || out;
      };
      for (const content of ['one', 'two', 'three', 'four']) {
        fs.writeFileSync(ana.path('work/note'), `${content}\n`);
        await eventually(`${content} arrives`, arrived(content), 20_000);
      }
      const { snapshots } = await ben.json<{ snapshots: unknown[] }>('log', 'work', '--remote', 'r');
      expect(snapshots.length).toBeLessThanOrEqual(2);
      // Somebody else takes the name.
      await ben.ok('import', writeFiles(ben.path('other'), { other: 'file\n' }), '--name', 'work');
      await ben.ok('push', 'work', 'r', '--force');
      fs.writeFileSync(ana.path('work/note'), 'five\n');
      const problem = async () => {
        const { workspaces } = await ana.json<{ workspaces: { pushProblem: string | null }[] }>(
          'workspace',
          'list',
        );
        return workspaces[0].pushProblem;
      };
      await eventually(
        'a problem',
        async () => /'work' of .* was moved by/.test((await problem()) ?? ''),
        20_000,
      );
      await ben.ok('ref', 'rm', 'work', '--remote', 'r');
      await eventually('no problem', async () => (await problem()) === null, 20_000);
      await ben.ok('ref', 'rm', 'work');
      await eventually('five arrives', arrived('five'), 20_000);
      await ana.ok('workspace', 'remove', 'work');
    },
  );

  test('one that is interrupted ends', async () => {
    for (const delay of [500, 400, 300, 200, 100]) {
      const own = await place.another();
      const ana = await newMachine(own);
      await ana.ok('import', writeFiles(ana.path('app'), LARGE), '--name', 'app');
      const push = begin(ana, own, 'push', 'app', 'r');
      await sleep(delay);
      push.child.kill('SIGINT');
      const { code } = await ends('a push', push, 10_000);
      // It was quicker.
      if (code === 0 && delay > 100) continue;
      expect(code).toBe(130);
      expect([...(await objectsIn(own)).keys()].filter((name) => !name.startsWith('packs/'))).toEqual([]);
      return;
    }
  });
});
