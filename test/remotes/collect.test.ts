import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Files, pseudoRandom, type Result, type Sandbox, writeFiles } from '../helpers.ts';
import {
  bytesAt,
  expectSame,
  KINDS,
  newMachine,
  objectsIn,
  openPlace,
  type Place,
  readObject,
  removeObject,
  writeObject,
} from './places.ts';

const MEGABYTE = 1 << 20;

function files(seed: string, megabytes = 4): Files {
  return {
    ...Object.fromEntries(
      Array.from({ length: 40 }, (_, i) => [`d${i % 4}/f${i}`, `${seed} ${i}\n`.repeat(9)]),
    ),
    ...Object.fromEntries(
      Array.from({ length: megabytes }, (_, i) => [`l/f${i}`, pseudoRandom(MEGABYTE, `${seed} ${i}`)]),
    ),
  };
}

async function pushed(box: Sandbox, name: string, content: Files): Promise<string> {
  writeFiles(box.path(name), content);
  const root = await box.ok('import', name, '--name', name);
  expect(await box.ok('push', name, 'r')).toBe(root);
  return root;
}

interface Check {
  name: string;
  ok: boolean;
  detail: string;
}

/** What `remote validate` finds wrong. */
async function problems(
  box: Sandbox,
  ...options: string[]
): Promise<{ code: number | null; failed: Check[] }> {
  const { code, out, err } = await box.run(['remote', 'validate', 'r', '--json', ...options]);
  expect(err).toBe('');
  const { ok, checks } = JSON.parse(out) as { ok: boolean; checks: Check[] };
  const failed = checks.filter((check) => !check.ok);
  expect(ok).toBe(failed.length === 0);
  return { code, failed };
}

describe.each(KINDS)('what nothing needs: %s', (kind) => {
  let place: Place;
  beforeAll(async () => {
    place = await openPlace(kind);
  });

  test('goes after two collections, while somebody pushes, and nothing else does', async () => {
    const ana = await newMachine(place);
    const kept = await pushed(ana, 'kept', files('kept'));
    await pushed(ana, 'gone', files('gone'));
    const before = await bytesAt(place);
    await ana.ok('ref', 'rm', 'gone', '--remote', 'r');
    await sleep(1100);
    const ben = await newMachine(place);
    // Shares with what goes, and with what stays.
    const shared = writeFiles(ben.path('shared'), { ...files('kept'), ...files('gone', 2) });
    const root = await ben.ok('import', shared, '--name', 'shared');
    const results: Result[] = [];
    let ended = false;
    const push = ben.run(['push', 'shared', 'r']).finally(() => {
      ended = true;
    });
    do {
      results.push(await ana.run(['remote', 'gc', 'r', '--grace', '1s', '--json']));
      await sleep(300);
    } while (!ended || results.length < 2);
    expect(await push).toMatchObject({ code: 0, err: '' });
    expect(results.map(({ code }) => code)).toEqual(results.map(() => 0));
    for (let i = 0; i < 3; i++) {
      await sleep(1100);
      await ana.ok('remote', 'gc', 'r', '--grace', '1s');
    }
    expect(await bytesAt(place)).toBeLessThan(before);
    expect(await problems(ana, '--deep')).toEqual({ code: 0, failed: [] });
    const cleo = await newMachine(place);
    await cleo.ok('export', 'shared@r', 'shared');
    await expectSame(cleo, shared, 'shared');
    await cleo.ok('export', kept, 'kept');
    await expectSame(cleo, ana.path('kept'), 'kept');
    expect(await cleo.ok('ref', 'get', 'shared').catch(() => root)).toBe(root);
    expect((await cleo.run(['ls', 'gone@r'])).code).toBe(4);
  });

  test('is there for the grace period', async () => {
    const own = await place.another();
    const ana = await newMachine(own);
    const root = await pushed(ana, 'app', files('app', 1));
    await ana.ok('ref', 'rm', 'app', '--remote', 'r');
    for (let i = 0; i < 2; i++) {
      expect(await ana.json('remote', 'gc', 'r')).toMatchObject({ remote: 'r', removed: 0, bytes: 0 });
    }
    const ben = await newMachine(own);
    expect(await ben.ok('cat', `${root}/d0/f0`)).toContain('app 0');
    expect(await ana.ok('remote', 'gc', 'r')).toMatch(
      /^1 roots need \d+ blocks; 0 more are not needed\nremoved 0 packs/,
    );
    await sleep(1100);
    expect(await ana.json('remote', 'gc', 'r', '--grace', '1s')).toMatchObject({ roots: 0, removedRoots: 1 });
    await sleep(1100);
    await ana.ok('remote', 'gc', 'r', '--grace', '1s');
    expect((await objectsIn(own, 'packs/')).size).toBe(0);
    const late = await newMachine(own);
    expect((await late.run(['cat', `${root}/d1/f1`])).code).toBe(4);
    expect(await ana.json('push', 'app', 'r')).toMatchObject({ root, changed: true });
    const cleo = await newMachine(own);
    await cleo.ok('export', 'app@r', 'app');
    await expectSame(cleo, ana.path('app'), 'app');
  });

  test.runIf(kind === 'directory')('of a history that is thinned goes, too', async () => {
    const own = await place.another();
    const ana = await newMachine(own);
    const app = ana.path('app');
    for (let i = 0; i < 4; i++) {
      writeFiles(app, { big: randomBytes(MEGABYTE) });
      await ana.ok('import', 'app', '--name', 'app');
      await ana.ok('push', 'app', 'r', '--keep', 'last=1');
    }
    const { snapshots } = await ana.json<{ snapshots: unknown[] }>('log', 'app', '--remote', 'r');
    expect(snapshots.length).toBe(1);
    for (let i = 0; i < 3; i++) {
      await sleep(1100);
      await ana.ok('remote', 'gc', 'r', '--grace', '1s');
    }
    expect(await bytesAt(own)).toBeLessThan(1.2 * MEGABYTE);
    expect(await problems(ana, '--deep')).toEqual({ code: 0, failed: [] });
  });
});

describe.each(KINDS)('validate: %s', (kind) => {
  let place: Place;
  let ana: Sandbox;
  let root: string;
  beforeAll(async () => {
    place = await openPlace(kind);
    ana = await newMachine(place);
    root = await pushed(ana, 'app', files('validate', 20));
  });

  /** What is there without an object, or with another one, for as long as `task` takes. */
  async function harmed(name: string, bytes: Buffer | undefined, task: () => Promise<void>): Promise<void> {
    const before = await readObject(place, name);
    if (bytes) await writeObject(place, name, bytes);
    else await removeObject(place, name);
    await task();
    await writeObject(place, name, before);
  }

  const first = async (prefix: string) => [...(await objectsIn(place, prefix)).keys()][0];

  test('all is well', async () => {
    const { ok, checks } = await ana.json<{ ok: boolean; checks: Check[] }>(
      'remote',
      'validate',
      'r',
      '--deep',
    );
    expect(ok).toBe(true);
    expect(checks.map(({ name }) => name)).toEqual([
      'list',
      'write',
      'read a part',
      'write only if',
      'remove',
      'clock',
      'tables and packs',
      'roots and refs',
      'trees',
      'blocks',
    ]);
    const lines = (await ana.ok('remote', 'validate', 'r')).split('\n');
    expect(lines.map((line) => line.slice(0, 4))).toEqual(Array(9).fill('ok  '));
    expect((await objectsIn(place, 'probe/')).size).toBe(0);
  });

  test('a flipped byte is found by --deep, and named', async () => {
    const name = await first('packs/');
    const bytes = await readObject(place, name);
    bytes[bytes.length >> 1] ^= 1;
    await harmed(name, bytes, async () => {
      const { code, failed } = await problems(ana, '--deep');
      expect(code).toBe(5);
      expect(failed).toEqual([
        expect.objectContaining({ name: 'blocks', detail: expect.stringContaining(name) }),
      ]);
      const ben = await newMachine(place);
      const result = await ben.run(['export', 'app@r', 'exported']);
      expect(result.out).toBe('');
      expect(result.err).toMatch(/^lazytree: [^\n]+\n$/);
      expect(result.err).toContain(name);
      expect(result.code).toBe(7);
    });
    expect(await problems(ana, '--deep')).toEqual({ code: 0, failed: [] });
  });

  test('a pack that is missing or cut short is named', async () => {
    const name = await first('packs/');
    await harmed(name, undefined, async () => {
      const { code, failed } = await problems(ana);
      expect(code).not.toBe(0);
      expect(failed[0]).toMatchObject({
        name: 'tables and packs',
        detail: `'${name}' is missing: push again what was pushed`,
      });
    });
    const bytes = await readObject(place, name);
    await harmed(name, bytes.subarray(0, bytes.length - 100), async () => {
      const { failed } = await problems(ana);
      expect(failed[0]).toMatchObject({
        name: 'tables and packs',
        detail: `'${name}' is cut short: push again what was pushed`,
      });
    });
  });

  test('a root that is missing is named, and pushing it again mends it', async () => {
    const name = await first('roots/');
    await removeObject(place, name);
    const { code, failed } = await problems(ana);
    expect(code).not.toBe(0);
    expect(failed).toEqual([
      expect.objectContaining({ name: 'roots and refs', detail: expect.stringContaining(name.slice(6)) }),
    ]);
    await ana.ok('push', 'app', 'r');
    expect((await problems(ana)).failed).toEqual([]);
  });

  test('a table that is missing is found, and pushing again mends it', async () => {
    await removeObject(place, await first('index/'));
    const { code, failed } = await problems(ana);
    expect(failed).toEqual([
      expect.objectContaining({ name: 'trees', detail: expect.stringContaining(root) }),
    ]);
    expect(code).toBe(5);
    const ben = await newMachine(place);
    expect((await ben.run(['export', 'app@r', 'exported'])).code).not.toBe(0);
    await ana.ok('push', 'app', 'r');
    expect(await problems(ana, '--deep')).toEqual({ code: 0, failed: [] });
    const cleo = await newMachine(place);
    await cleo.ok('export', 'app@r', 'exported');
    await expectSame(cleo, ana.path('app'), 'exported');
  });
});
