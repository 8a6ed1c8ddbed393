import { execFileSync } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { parseCommandRequest } from '../../dist/daemon/command-request.js';
import { createCredentialMemory } from '../../dist/remotes/credential-memory.js';
import { azureAccess } from '../../dist/remotes/credentials.js';
import { openStorage } from '../../dist/remotes/open-storage.js';

const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-credentials-'));
afterAll(() => fs.rmSync(directory, { recursive: true }));

const KEY = randomBytes(64).toString('base64');
const SIGNATURE = randomBytes(32).toString('base64');
const SAS = `sv=2024-11-04&sp=rwdlc&se=2099-01-01T00%3A00%3A00Z&sig=${encodeURIComponent(SIGNATURE)}`;
const CONNECTION = `DefaultEndpointsProtocol=https;AccountName=account;AccountKey=${KEY};EndpointSuffix=core.windows.net`;
const AZURE = 'https://account.blob.core.windows.net';

let files = 0;
function file(content: string, mode = 0o600): string {
  const path = join(directory, `credentials-${files++}`);
  fs.writeFileSync(path, content, { mode });
  fs.chmodSync(path, mode);
  return path;
}

const access = (options: Partial<Parameters<typeof azureAccess>[0]>) =>
  azureAccess({ account: 'account', env: {}, ...options });

/** Fails, and says nothing of what it was given. */
async function refused(options: Partial<Parameters<typeof azureAccess>[0]>) {
  const failure = await access(options).then(
    () => undefined,
    (error) => error,
  );
  const text = JSON.stringify([failure?.message, failure?.hint, failure?.stack]);
  for (const secret of [KEY, SIGNATURE, encodeURIComponent(SIGNATURE), 'SECRET'])
    expect(text).not.toContain(secret);
  return { code: failure?.code, message: failure?.message, hint: failure?.hint };
}

test('variables, the most complete first', async () => {
  const all = {
    AZURE_STORAGE_CONNECTION_STRING: CONNECTION,
    AZURE_STORAGE_KEY: 'b'.repeat(88),
    AZURE_STORAGE_SAS_TOKEN: SAS,
  };
  const key = { kind: 'key', key: KEY };
  expect(await access({ env: all })).toMatchObject({ endpoint: AZURE, credential: key });
  expect(await access({ env: { AZURE_STORAGE_KEY: KEY, AZURE_STORAGE_SAS_TOKEN: SAS } })).toMatchObject({
    endpoint: AZURE,
    credential: key,
    via: 'the account key in AZURE_STORAGE_KEY',
  });
  const sas = await access({ env: { AZURE_STORAGE_SAS_TOKEN: `?${SAS}` } });
  expect(sas).toMatchObject({
    credential: { kind: 'sas', sas: SAS },
    via: 'the SAS token in AZURE_STORAGE_SAS_TOKEN, valid until 2099-01-01T00:00:00.000Z',
  });
  const none = await access({ env: { AZURE_TENANT_ID: 'tenant' } });
  expect(none).toMatchObject({ credential: { kind: 'identity', env: { AZURE_TENANT_ID: 'tenant' } } });
});

test('a file comes before variables, and nothing of both is mixed', async () => {
  const env = { AZURE_STORAGE_CONNECTION_STRING: CONNECTION };
  const sas = { kind: 'sas', sas: SAS };
  for (const content of [
    `AZURE_STORAGE_SAS_TOKEN=${SAS}`,
    `# a comment\r\n\r\nexport AZURE_STORAGE_SAS_TOKEN="${SAS}"\r\n`,
    `BlobEndpoint=${AZURE};SharedAccessSignature=${SAS}\n`,
  ])
    expect(await access({ env, credentialsFile: file(content) })).toMatchObject({
      endpoint: AZURE,
      credential: sas,
    });
  expect(await access({ credentialsFile: file(`AZURE_STORAGE_KEY=${KEY}`, 0o400) })).toMatchObject({
    credential: { kind: 'key', key: KEY },
  });
});

test('endpoints of connection strings, of options, and of Azurite', async () => {
  const at = async (text: string, options = {}) =>
    (await access({ env: { AZURE_STORAGE_CONNECTION_STRING: text }, ...options })).endpoint;
  const china = CONNECTION.replace('core.windows.net', 'core.chinacloudapi.cn');
  expect(await at(china)).toBe('https://account.blob.core.chinacloudapi.cn');
  expect(await at(`${CONNECTION};BlobEndpoint=http://127.0.0.1:1/account/`)).toBe(
    'http://127.0.0.1:1/account',
  );
  expect(await at(CONNECTION, { endpoint: 'https://private.example' })).toBe('https://private.example');
  expect(await at('UseDevelopmentStorage=true', { account: 'devstoreaccount1' })).toBe(
    'http://127.0.0.1:10000/devstoreaccount1',
  );
});

test('a connection string of another account', async () => {
  const env = {
    AZURE_STORAGE_CONNECTION_STRING: CONNECTION.replace('AccountName=account', 'AccountName=other'),
  };
  expect(await refused({ env })).toMatchObject({
    code: 'REFUSED',
    message: "AZURE_STORAGE_CONNECTION_STRING is for the account 'other', not 'account'",
  });
});

test.each([
  ['AZURE_STORAGE_CONNECTION_STRING', 'SECRET'],
  ['AZURE_STORAGE_CONNECTION_STRING', 'AccountName=account;SECRET'],
  ['AZURE_STORAGE_CONNECTION_STRING', 'AccountName=account;AccountKey=SECRET!'],
  ['AZURE_STORAGE_CONNECTION_STRING', `AccountKey=${KEY}`],
  ['AZURE_STORAGE_CONNECTION_STRING', `${CONNECTION};BlobEndpoint=https://x/?SECRET`],
  ['AZURE_STORAGE_KEY', 'SECRET key'],
  ['AZURE_STORAGE_SAS_TOKEN', 'SECRET'],
])('%s that is none: %s', async (name, value) => {
  expect(await refused({ env: { [name]: value } })).toMatchObject({
    code: 'REFUSED',
    message: expect.stringContaining(name),
  });
});

test.each([
  ['', 'it is empty'],
  ['\n# only a comment\n', 'it is empty'],
  [`AZURE_STORAGE_KEY=${KEY}\nSECRET`, 'line 2 is not one of'],
  [`AZURE_STORAGE_KEY=${KEY}\nAZURE_CLIENT_SECRET=SECRET`, 'line 2 is not one of'],
  [`AZURE_STORAGE_KEY=${KEY}\nAZURE_STORAGE_KEY=${KEY}`, 'twice'],
  ['AZURE_STORAGE_KEY=', 'AZURE_STORAGE_KEY is empty'],
  [`${CONNECTION}\nSECRET`, 'more than the one line'],
  ['x'.repeat(100_000), 'too long'],
  ['SECRET', 'is not the connection string of a storage account'],
])('a file that is not understood: %#', async (content, why) => {
  const failure = await refused({ credentialsFile: file(content) });
  expect(failure).toMatchObject({ code: 'REFUSED', message: expect.stringContaining(why) });
});

test.each([0o644, 0o640, 0o660, 0o601, 0o602, 0o610])('a file of mode %o is refused', async (mode) => {
  expect(await refused({ credentialsFile: file(CONNECTION, mode) })).toMatchObject({
    code: 'REFUSED',
    message: expect.stringContaining(`its mode is ${mode.toString(8).padStart(4, '0')}`),
    hint: expect.stringContaining('chmod 600'),
  });
});

test('what is no file of the caller is refused', async () => {
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', ['-m', '600', pipe]);
  for (const path of [pipe, directory])
    expect(await refused({ credentialsFile: path })).toMatchObject({
      code: 'REFUSED',
      message: expect.stringContaining('not a regular file'),
    });
  expect(await refused({ credentialsFile: join(directory, 'none') })).toMatchObject({ code: 'NOT_FOUND' });
});

test.runIf(process.getuid?.() === 0)('a file of another user is refused', async () => {
  const path = file(CONNECTION);
  fs.chownSync(path, 65534, 65534);
  expect(await refused({ credentialsFile: path })).toMatchObject({
    code: 'REFUSED',
    message: expect.stringContaining('belongs to another user'),
  });
});

test('what is sent as it is is not sent in the clear, but for this machine', async () => {
  const sas = { AZURE_STORAGE_SAS_TOKEN: SAS };
  const far = 'http://storage.example/account';
  const clear = { code: 'REFUSED', message: expect.stringContaining('in the clear') };
  expect(await refused({ env: sas, endpoint: far })).toMatchObject(clear);
  expect(await refused({ env: sas, endpoint: 'http://127.0.0.1.example/account' })).toMatchObject(clear);
  expect(await refused({ env: {}, endpoint: 'http://127.0.0.1:10000/account' })).toMatchObject(clear);
  for (const endpoint of [
    'http://127.0.0.1:10000/account',
    'http://localhost/account',
    'http://[::1]/account',
  ])
    expect(await access({ env: sas, endpoint })).toMatchObject({ endpoint });
  expect(await access({ env: { AZURE_STORAGE_KEY: KEY }, endpoint: far })).toMatchObject({ endpoint: far });
});

test('a daemon remembers what a remote was last opened with', () => {
  const memory = createCredentialMemory({ AZURE_STORAGE_KEY: 'own', PATH: '/bin' });
  expect(memory.envFor('a')).toEqual({ AZURE_STORAGE_KEY: 'own' });
  expect(memory.envFor('a', { AZURE_STORAGE_SAS_TOKEN: 'first', HOME: '/' })).toEqual({
    AZURE_STORAGE_SAS_TOKEN: 'first',
  });
  expect(memory.envFor('a', { LAZYTREE_HOME: '/' })).toEqual({ AZURE_STORAGE_SAS_TOKEN: 'first' });
  expect(memory.envFor('b', {})).toEqual({ AZURE_STORAGE_KEY: 'own' });
  expect(memory.envFor('a', { AZURE_STORAGE_KEY: 'second' })).toEqual({ AZURE_STORAGE_KEY: 'second' });
  expect(memory.envFor('a')).toEqual({ AZURE_STORAGE_KEY: 'second' });
  memory.forget('a');
  expect(memory.envFor('a')).toEqual({ AZURE_STORAGE_KEY: 'own' });
});

test('the variables that open remotes travel with a command, and no others', () => {
  const body = (env: Record<string, string>) => JSON.stringify({ argv: ['ls'], env });
  const env = { AZURE_STORAGE_KEY: 'a', AZURE_CLIENT_SECRET: 'b', LAZYTREE_DEBUG: '1' };
  expect(parseCommandRequest(body(env)).env).toEqual(env);
  for (const name of ['PATH', 'AZURE_STORAGE_KEYS', 'XAZURE_STORAGE_KEY', 'NODE_OPTIONS'])
    expect(() => parseCommandRequest(body({ ...env, [name]: 'SECRET' }))).toThrow(/^(?!.*SECRET)/);
});

const IDENTITY = { AZURE_TENANT_ID: randomUUID(), AZURE_CLIENT_ID: randomUUID() };

test.each([
  [
    { ...IDENTITY, AZURE_CLIENT_CERTIFICATE_PATH: '/none/x.pem' },
    /identity of AZURE_CLIENT_CERTIFICATE_PATH .*ENOENT/,
  ],
  [
    { ...IDENTITY, AZURE_CLIENT_CERTIFICATE_PATH: file(`no certificate ${KEY}`) },
    /AZURE_CLIENT_CERTIFICATE_PATH/,
  ],
  [{ ...IDENTITY, AZURE_FEDERATED_TOKEN_FILE: '/none/token' }, /identity of AZURE_FEDERATED_TOKEN_FILE/],
  [
    { ...IDENTITY, AZURE_TENANT_ID: 'no tenant!', AZURE_CLIENT_SECRET: KEY },
    /identity of AZURE_CLIENT_SECRET/,
  ],
])('an identity that gives nothing is an error that says what to do: %#', async (env, message) => {
  const signal = new AbortController().signal;
  const read = async () =>
    (await openStorage({ url: 'azure://account/container' }, { env })).get('x', { signal });
  const failure = await read().catch((error) => error);
  expect(failure).toMatchObject({
    code: 'REFUSED',
    message: expect.stringMatching(message),
    hint: expect.stringMatching(/AZURE_STORAGE_KEY.*where the daemon is started.*--credentials FILE/),
  });
  expect(inspect(failure, { depth: 20, showHidden: true })).not.toContain(KEY);
});
