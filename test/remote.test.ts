import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { beAlone, listing, type Result, runDaemon, type Sandbox, sandbox, writeFiles } from './helpers.js';

const KEY = randomBytes(64).toString('base64');
const SIGNATURE = randomBytes(32).toString('base64url');
const SAS = `sv=2024-11-04&sp=rwdlc&se=2099-01-01T00:00:00Z&sig=${SIGNATURE}`;
const CONNECTION = `DefaultEndpointsProtocol=https;AccountName=account;AccountKey=${KEY};EndpointSuffix=core.windows.net`;
const CLIENT_SECRET = randomBytes(24).toString('hex');
const SECRETS = [KEY, KEY.slice(0, 40), SIGNATURE, CLIENT_SECRET];

/** The error of a command that failed with `--json`. */
function failure({ code, err, out }: Result): Record<string, unknown> {
  const [document] = err.split('\n');
  expect(out).toBe(`${document}\n`);
  return { exit: code, ...JSON.parse(document).error };
}

function secretFile(box: Sandbox, content: string, mode = 0o600): string {
  const path = box.path(`secret-${randomBytes(4).toString('hex')}`);
  fs.writeFileSync(path, content);
  fs.chmodSync(path, mode);
  return path;
}

describe.each(['without a daemon', 'through a daemon'])('%s', (how) => {
  async function newSandbox(env: NodeJS.ProcessEnv = {}): Promise<Sandbox> {
    const box = sandbox();
    if (how === 'through a daemon') expect(await runDaemon({ home: box.home, env })).toBeDefined();
    return box;
  }

  test('remotes are added, listed and removed, and need no network', async () => {
    const box = await newSandbox();
    expect(await box.ok('remote', 'add', 'share', `file://${box.path('share')}`)).toBe('');
    const file = secretFile(box, CONNECTION);
    const added = await box.json(
      'remote',
      'add',
      'cloud',
      'azure://account/container/prefix',
      '--credentials',
      file,
      '--endpoint',
      'https://account.private.example/',
    );
    const cloud = {
      name: 'cloud',
      url: 'azure://account/container/prefix',
      endpoint: 'https://account.private.example',
      credentials: file,
      created: expect.stringMatching(/^\d{4}-/),
    };
    expect(added).toEqual({ added: cloud });
    const { remotes } = await box.json<{ remotes: unknown[] }>('remote', 'list');
    const share = { name: 'share', url: `file://${box.path('share')}`, endpoint: null, credentials: null };
    expect(remotes).toEqual([
      { ...share, created: expect.any(String), traffic: null },
      { ...cloud, traffic: null },
    ]);
    const lines = (await box.ok('remote', 'list')).split('\n');
    expect(lines[1]).toMatch(
      /^cloud {2}azure:\/\/account\/container\/prefix {2,}https:\/\/account\.private\.example, credentials in \//,
    );
    expect(lines[0]).toMatch(/^share {2}file:\/\//);
    expect(failure(await box.run(['remote', 'add', 'share', 'file:///elsewhere', '--json']))).toMatchObject({
      exit: 8,
      code: 'REFUSED',
    });
    expect(await box.json('remote', 'rm', 'share')).toEqual({ removed: 'share' });
    expect(failure(await box.run(['remote', 'rm', 'share', '--json']))).toMatchObject({
      exit: 4,
      code: 'NOT_FOUND',
      hint: 'there are: cloud',
    });
    await box.ok('remote', 'add', 'share', 'file:///elsewhere');
  });

  test('a path of credentials begins at the caller', async () => {
    const box = await newSandbox();
    const file = secretFile(box, `AZURE_STORAGE_KEY=${KEY}`);
    const name = file.slice(file.lastIndexOf('/') + 1);
    const { code, err } = await box.run([
      'remote',
      'add',
      'cloud',
      'azure://account/container',
      '--credentials',
      name,
    ]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(await box.json('remote', 'list')).toMatchObject({ remotes: [{ credentials: file }] });
  });

  test('what cannot be a remote is refused, with the exit code for it', async () => {
    const box = await newSandbox();
    await box.ok('remote', 'add', 'first', 'file:///srv');
    const before = fs.readFileSync(join(box.home, 'remotes.json'), 'utf8');
    const cases: [exit: number, code: string, message: RegExp, args: string[]][] = [
      [2, 'USAGE', /not the URL of a remote/, ['a', 's3://bucket']],
      [2, 'USAGE', /cannot be the name of a remote/, ['a/b', 'file:///srv']],
      [2, 'USAGE', /no name of a container/, ['a', 'azure://account']],
      [2, 'USAGE', /for azure:\/\/ alone/, ['a', 'file:///srv', '--endpoint', 'https://x']],
      [2, 'USAGE', /endpoint is not/, ['a', 'azure://account/container', '--endpoint', 'x']],
      [2, 'USAGE', /URL contains a secret/, ['a', `azure://account/container?${SAS}`]],
      [2, 'USAGE', /URL contains a secret/, ['a', CONNECTION]],
      [
        2,
        'USAGE',
        /endpoint contains a secret/,
        ['a', 'azure://account/container', '--endpoint', `https://x/?${SAS}`],
      ],
      [
        2,
        'USAGE',
        /credentials file contains a secret/,
        ['a', 'azure://account/container', '--credentials', CONNECTION],
      ],
      [2, 'USAGE', /name contains a secret/, [KEY, 'azure://account/container']],
      [
        4,
        'NOT_FOUND',
        /credentials file/,
        ['a', 'azure://account/container', '--credentials', box.path('none')],
      ],
      [
        8,
        'REFUSED',
        /its mode is 0644/,
        ['a', 'azure://account/container', '--credentials', secretFile(box, CONNECTION, 0o644)],
      ],
      [
        8,
        'REFUSED',
        /account 'account', not 'another'/,
        ['a', 'azure://another/container', '--credentials', secretFile(box, CONNECTION)],
      ],
      [
        8,
        'REFUSED',
        /not the connection string/,
        ['a', 'azure://account/container', '--credentials', secretFile(box, `junk ${KEY}`)],
      ],
    ];
    for (const [exit, code, message, args] of cases) {
      const result = await box.run(['remote', 'add', ...args, '--json'], { env: { LAZYTREE_DEBUG: '1' } });
      expect(failure(result)).toMatchObject({ exit, code, message: expect.stringMatching(message) });
      for (const secret of SECRETS) expect(result.err).not.toContain(secret);
    }
    expect(fs.readFileSync(join(box.home, 'remotes.json'), 'utf8')).toBe(before);
  });

  test('no secret is anywhere in what is written', async () => {
    const env = {
      AZURE_STORAGE_CONNECTION_STRING: CONNECTION,
      AZURE_STORAGE_KEY: KEY,
      AZURE_STORAGE_SAS_TOKEN: SAS,
      AZURE_CLIENT_SECRET: CLIENT_SECRET,
      LAZYTREE_DEBUG: '1',
      LAZYTREE_LOG_LEVEL: 'debug',
    };
    const box = await newSandbox(env);
    const outside = sandbox();
    const file = secretFile(outside, CONNECTION);
    writeFiles(box.path('tree'), { file: 'content' });
    const said: string[] = [];
    const run = async (...args: string[]) => {
      for (const more of [[], ['--json']]) {
        const { out, err } = await box.run([...args, ...more], { env });
        said.push(out, err);
      }
    };
    await run('remote', 'add', 'cloud', 'azure://account/container', '--credentials', file);
    await run('remote', 'add', 'other', 'azure://account/container');
    await run('remote', 'add', 'bad', `azure://account/container?${SAS}`);
    await run('remote', 'add', 'bad', 'azure://another/container', '--credentials', file);
    await run('remote', 'add', 'bad', 'azure://account/container', '--endpoint', `https://x/?${SAS}`);
    await run('remote', 'list');
    await run('import', box.path('tree'), '--name', 'tree');
    await run('ls', 'tree');
    await run('ls', 'not-there');
    await run('status');
    await run('daemon', 'status');
    await run('remote', 'rm', 'other');
    if (how === 'through a daemon') said.push(await malformed(join(box.home, 'daemon.sock')));
    await beAlone(box.home);
    await box.run(['daemon', 'stop']);
    expect(said.join('')).toContain('azure://account/container');
    expect(listing(box.home).length).toBeGreaterThan(5);
    const written = contents(box.home);
    expect(written.toString('latin1')).toContain('azure://account/container');
    for (const secret of SECRETS) {
      expect(said.join('\n')).not.toContain(secret);
      expect(written.includes(secret)).toBe(false);
    }
  });
});

/** What the daemon answers to a command that it does not take, with secrets in it. */
function malformed(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method: 'POST', path: '/v1/commands' }, async (answer) => {
      const parts: Buffer[] = [];
      for await (const part of answer) parts.push(part);
      resolve(Buffer.concat(parts).toString());
    });
    asked.on('error', reject);
    asked.end(
      JSON.stringify({
        argv: [],
        env: {
          AZURE_STORAGE_KEY: KEY,
          [`BAD_${CLIENT_SECRET}`.slice(0, 4)]: SIGNATURE,
          AZURE_CLIENT_SECRET: 1,
        },
      }),
    );
  });
}

/** Of all files below a directory. */
function contents(directory: string): Buffer {
  const files = fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile());
  return Buffer.concat(files.map(({ parentPath, name }) => fs.readFileSync(join(parentPath, name))));
}

test('a daemon started for a command writes no secret to its log', async () => {
  const box = sandbox();
  const env = {
    AZURE_STORAGE_KEY: KEY,
    AZURE_STORAGE_CONNECTION_STRING: CONNECTION,
    LAZYTREE_LOG_LEVEL: 'debug',
    LAZYTREE_DEBUG: '1',
  };
  await box.run(['daemon', 'start'], { env });
  await box.run(['remote', 'add', 'cloud', 'azure://account/container'], { env });
  await box.run(['remote', 'rm', 'none'], { env });
  await box.run(['daemon', 'stop'], { env });
  const log = fs.readFileSync(join(box.home, 'daemon.log'), 'utf8');
  expect(log).toContain('"command":"remote"');
  for (const secret of SECRETS) expect(contents(box.home).includes(secret)).toBe(false);
});
