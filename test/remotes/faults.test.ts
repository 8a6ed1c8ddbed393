import fs from 'node:fs';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Azurite, startAzurite } from '../../packages/node/test/remotes/azurite.ts';
import type { Fault, Seen } from '../../packages/node/test/remotes/http-fault-proxy.ts';
import { eventually } from '../cluster/nodes.ts';
import { type Files, pseudoRandom, type Result, writeFiles } from '../helpers.ts';
import { stopDaemon, unlessMountable } from '../mount/mountable.ts';
import { daemonPid, killDaemon, sh, shOk } from '../mount/mounted.ts';
import { type AzurePlace, expectSame, newMachine, openAzurePlace } from './places.ts';

const MEGABYTE = 1 << 20;
const FILES: Files = {
  ...Object.fromEntries(
    Array.from({ length: 100 }, (_, i) => [`small/d${i % 5}/f${i}`, `file ${i}\n`.repeat(50)]),
  ),
  ...Object.fromEntries(
    Array.from({ length: 6 }, (_, i) => [`large/f${i}`, pseudoRandom(2 * MEGABYTE, `fault ${i}`)]),
  ),
};

const isPack = ({ method, url }: Seen) => method === 'GET' && url.includes('/packs/');

function oneLine({ out, err }: Result): string {
  expect(out).toBe('');
  expect(err).toMatch(/^lazytree: [^\n]+\n$/);
  return err;
}

describe.skipIf(unlessMountable('remotes that fail'))('a remote that fails', () => {
  let place: AzurePlace;
  let app: string;
  let root: string;

  beforeAll(async () => {
    place = await openAzurePlace();
    const ana = await newMachine(place);
    app = writeFiles(ana.path('app'), FILES);
    root = await ana.ok('import', 'app', '--name', 'app');
    await ana.ok('push', 'app', 'r');
  });

  beforeEach(() => place.proxy.clear());

  describe.each<[string, Fault, number]>([
    ['bytes that are not what was written', { kind: 'spoil answer' }, 1],
    ['a storm of 503', { kind: 'answer', status: 503, headers: { 'retry-after': '1' } }, 3],
    ['connections that are cut', { kind: 'cut answer', after: 100_000 }, 6],
    ['bodies that come slowly', { kind: 'slow answer', bytesPerSecond: 4 * MEGABYTE }, 4],
  ])('with %s', (_, fault, times) => {
    test('a mount shows the right bytes', async () => {
      const box = await newMachine(place);
      await box.ok('mount', 'app@r', 'mounted');
      place.proxy.plan(fault, { times, to: isPack });
      await expectSame(box, app, 'mounted');
      await box.ok('unmount', 'mounted');
      await stopDaemon(box);
    });

    test('what is pulled is right', async () => {
      const box = await newMachine(place);
      place.proxy.plan(fault, { times, to: isPack });
      expect(await box.ok('pull', 'app', 'r')).toBe(root);
      await box.ok('export', 'app', 'exported');
      await expectSame(box, app, 'exported');
      await stopDaemon(box);
    });
  });

  test('wrong bytes without an end are an error that names the blob, and never content', async () => {
    const box = await newMachine(place);
    await box.ok('mount', 'app@r', 'mounted');
    fs.cpSync(app, box.path('app'), { recursive: true });
    place.proxy.plan({ kind: 'spoil answer' }, { times: 1e9, to: isPack });
    const { code, out } = await sh(box, 'set -o pipefail; cat mounted/large/f2 | cmp - app/large/f2');
    // Less than all of it, at most.
    expect({ failed: code !== 0, out }).toEqual({ failed: true, out: '' });
    const log = fs.readFileSync(`${box.home}/daemon.log`, 'utf8');
    expect(log).toMatch(/packs\/[0-9a-f]{64}/);
    expect(log).toContain('the remote r (azure://');
    place.proxy.clear();
    await eventually(
      'it can be read',
      async () => (await sh(box, 'cat mounted/large/f2')).code === 0,
      30_000,
    );
    await expectSame(box, app, 'mounted');
    await box.ok('unmount', 'mounted');
  });

  test('refused, and a container that is not there, are one clear line', async () => {
    const box = await newMachine(place);
    place.proxy.plan(
      { kind: 'answer', status: 403, headers: { 'x-ms-error-code': 'AuthorizationPermissionMismatch' } },
      { times: 1e9 },
    );
    for (const args of [
      ['ls', 'app@r'],
      ['pull', 'app', 'r'],
      ['ref', 'list', '--remote', 'r'],
      ['remote', 'gc', 'r'],
      ['remote', 'validate', 'r'],
    ]) {
      const result = await box.run(args);
      const text = args[1] === 'validate' ? result.out : oneLine(result);
      expect({ args, code: result.code }).toEqual({ args, code: 8 });
      expect(text).toMatch(
        /refused \(HTTP 403, AuthorizationPermissionMismatch.*Storage Blob Data Contributor/,
      );
    }
    place.proxy.clear();
    const key = {
      AZURE_STORAGE_CONNECTION_STRING: place.azurite.connectionString.replace(
        /AccountKey=..../,
        'AccountKey=AAAA',
      ),
    };
    const wrong = await box.run(['ref', 'list', '--remote', 'r'], { env: key });
    expect(wrong.code).toBe(8);
    expect(oneLine(wrong)).toMatch(/refused \(HTTP 403, AuthorizationFailure|AuthenticationFailed/);
    const [url, ...more] = place.address;
    await box.ok('remote', 'add', 'none', url.replace(/[^/]*$/, 'not-there'), ...more);
    await box.ok('import', writeFiles(box.path('mine'), { file: 'mine\n' }), '--name', 'mine');
    for (const args of [
      ['ls', 'app@none'],
      ['push', 'mine', 'none'],
      ['pull', 'app', 'none'],
      ['remote', 'gc', 'none'],
    ]) {
      const result = await box.run(args);
      expect({ args, code: result.code }).toEqual({ args, code: 4 });
      expect(oneLine(result)).toMatch(
        /the container 'not-there' of the account 'lazytreetest' does not exist \(make it: az /,
      );
    }
  });

  test('the daemon of a mount is killed, and the next one reads on', async () => {
    const box = await newMachine(place);
    await box.ok('mount', 'app@r', 'mounted');
    await shOk(box, 'cat mounted/large/f0 > /dev/null');
    await killDaemon(box);
    expect(await box.ok('cat', 'app@r/small/d0/f0')).toBe('file 0\n'.repeat(50).trimEnd());
    expect(await daemonPid(box)).toBeGreaterThan(0);
    await expectSame(box, app, 'mounted');
    await box.ok('unmount', 'mounted');
  });

  test('a remote is added and removed while a daemon runs', async () => {
    const box = await newMachine(place);
    await box.ok('mount', 'app@r', 'mounted');
    await box.ok('remote', 'rm', 'r');
    expect((await box.run(['ls', 'app@r'])).code).toBe(4);
    expect((await sh(box, 'cat mounted/large/f1')).code).toBe(1);
    await box.ok('remote', 'add', 'again', ...place.address);
    expect(await box.ok('ls', 'app@again')).toBe('large/\nsmall/');
    await eventually(
      'it is read again',
      async () => (await sh(box, 'cat mounted/large/f1 > /dev/null')).code === 0,
      20_000,
    );
    await expectSame(box, app, 'mounted');
    await box.ok('unmount', 'mounted');
  });
});

describe.skipIf(unlessMountable('remotes that go away'))('a remote that goes away and comes back', () => {
  test('reads fail, and then go on; commands say that it is away', async () => {
    const directory = fs.mkdtempSync('/tmp/lazytree-e2e-azurite-');
    let azurite: Azurite | undefined;
    try {
      azurite = await startAzurite({ directory });
      const { key, account, port } = azurite;
      const url = `azure://${account}/${await azurite.createContainer('there')}`;
      const env = { AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString };
      const direct = { address: [url], env } as unknown as AzurePlace;
      const ana = await newMachine(direct);
      await ana.ok('import', writeFiles(ana.path('app'), FILES), '--name', 'app');
      await ana.ok('push', 'app', 'r');
      const ben = await newMachine(direct);
      await ben.ok('mount', 'app@r', 'mounted');
      await shOk(ben, 'cat mounted/large/f0 > /dev/null');
      await azurite.close();
      const [read, listed] = await Promise.all([
        sh(ben, 'cat mounted/large/f5'),
        ana.run(['ref', 'list', '--remote', 'r']),
      ]);
      expect(read.err).toMatch(/Input\/output error/);
      expect(listed.code).toBe(7);
      expect(oneLine(listed)).toMatch(/nobody listens there; \d attempts failed/);
      expect(fs.readFileSync(`${ben.home}/daemon.log`, 'utf8')).toMatch(
        /the remote r \(azure:\/\/lazytreetest\/there/,
      );
      expect(await shOk(ben, 'cat mounted/large/f0 | wc -c')).toBe(`${2 * MEGABYTE}\n`);
      azurite = await startAzurite({ directory, key, account, port });
      await eventually(
        'reads go on',
        async () => (await sh(ben, 'cat mounted/large/f5 > /dev/null')).code === 0,
        30_000,
      );
      await expectSame(ben, ana.path('app'), 'mounted');
      await ben.ok('unmount', 'mounted');
    } finally {
      await azurite?.close();
      fs.rmSync(directory, { recursive: true, force: true });
    }
  });
});
