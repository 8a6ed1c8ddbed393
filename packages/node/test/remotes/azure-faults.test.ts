import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { createLog } from '@lazytree/node/daemon';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type AzureLimits, openAzureStorage } from '../../dist/remotes/storage/azure.js';
import type { Storage } from '../../src/remotes/storage/storage.js';
import { type Azurite, startAzurite } from './azurite.js';
import { type Fault, type HttpFaultProxy, startHttpFaultProxy } from './http-fault-proxy.js';
import { noise } from './storage-conformance.js';

const signal = new AbortController().signal;
/** Quick enough to fail in a test, and otherwise as it is. */
const QUICK: Partial<AzureLimits> = {
  attempts: 4,
  withinMs: 5000,
  pauseMs: 20,
  longestPauseMs: 100,
  idleMs: 500,
};

let azurite: Azurite;
let proxy: HttpFaultProxy;
let container: string;
const opened: Storage[] = [];

beforeAll(async () => {
  azurite = await startAzurite();
  proxy = await startHttpFaultProxy({ host: '127.0.0.1', port: azurite.port });
  container = await azurite.createContainer();
});

afterEach(() => proxy.clear());

afterAll(async () => {
  for (const storage of opened) await storage.close();
  await proxy.close();
  await azurite.close();
});

interface OpenOptions {
  limits?: Partial<AzureLimits>;
  container?: string;
  key?: string;
  sas?: string;
  endpoint?: string;
}

async function open({ limits, container: wanted, key = azurite.key, sas, endpoint }: OpenOptions = {}) {
  const { account } = azurite;
  const storage = await openAzureStorage({
    access: {
      account,
      endpoint: endpoint ?? `http://127.0.0.1:${proxy.port}/${account}`,
      credential: sas === undefined ? { kind: 'key', key } : { kind: 'sas', sas },
      via:
        sas === undefined
          ? 'the account key in AZURE_STORAGE_KEY'
          : 'the SAS token in AZURE_STORAGE_SAS_TOKEN',
    },
    container: wanted ?? container,
    prefix: '',
    limits: { ...QUICK, ...limits },
  });
  opened.push(storage);
  return storage;
}

let names = 0;
const newName = () => `object-${names++}`;

async function requests(task: () => Promise<unknown>): Promise<number> {
  const before = proxy.seen().length;
  await task();
  return proxy.seen().length - before;
}

const TOO_BUSY: Fault = { kind: 'answer', status: 503, headers: { 'x-ms-error-code': 'ServerBusy' } };

const passing: [what: string, fault: Fault][] = [
  ['503', TOO_BUSY],
  ['429', { kind: 'answer', status: 429 }],
  ['500', { kind: 'answer', status: 500, headers: { 'x-ms-error-code': 'InternalError' } }],
  ['408', { kind: 'answer', status: 408 }],
  ['a cut before the body', { kind: 'cut request', after: 0 }],
  ['a lost answer', { kind: 'lose answer' }],
  ['no answer', { kind: 'black hole' }],
  ['a cut in the answer', { kind: 'cut answer', after: 700 }],
  ['an answer that stands still', { kind: 'stall answer', after: 700 }],
];

test.each(passing)('%s, twice: every call succeeds all the same', async (_, fault) => {
  const storage = await open();
  const name = newName();
  const content = noise(300_000);
  const plan = () => {
    proxy.clear();
    proxy.plan(fault, { times: 2 });
  };
  plan();
  const { version } = (await storage.put(name, [content], { signal }))!;
  plan();
  expect((await storage.get(name, { signal }))?.bytes.equals(content)).toBe(true);
  plan();
  const range = { offset: 1000, length: 200_000 };
  expect((await storage.get(name, { signal, range }))?.bytes.equals(content.subarray(1000, 201_000))).toBe(
    true,
  );
  plan();
  const listed: string[] = [];
  for await (const info of storage.list(name, { signal })) listed.push(info.name);
  expect(listed).toEqual([name]);
  plan();
  expect(await storage.now({ signal })).toBeGreaterThan(0);
  plan();
  expect(await storage.put(name, [Buffer.from('next')], { signal, expected: { version } })).toBeDefined();
  plan();
  expect(await storage.delete(name, { signal })).toBe(true);
  expect(await storage.get(name, { signal })).toBeUndefined();
});

test.each(passing)('%s without end: an error that says so, soon', async (_, fault) => {
  const storage = await open();
  const name = newName();
  await storage.put(name, [noise(300_000)], { signal });
  proxy.plan(fault, { times: 1000 });
  const began = performance.now();
  const sent = await requests(async () => {
    const failure = storage.get(name, { signal });
    await expect(failure).rejects.toMatchObject({
      code: 'NETWORK',
      message: expect.stringContaining('4 attempts failed'),
    });
  });
  expect(sent).toBe(QUICK.attempts);
  expect(performance.now() - began).toBeLessThan(8000);
});

test('what the storage asks to wait is waited', async () => {
  const storage = await open();
  proxy.plan({ ...TOO_BUSY, headers: { 'retry-after': '1' } } as Fault);
  const began = performance.now();
  await storage.put(newName(), [Buffer.from('x')], { signal });
  expect(performance.now() - began).toBeGreaterThanOrEqual(1000);
});

test('what it asks to wait for too long is an error that says so, at once', async () => {
  const storage = await open();
  proxy.plan({ ...TOO_BUSY, headers: { 'retry-after': '300' } } as Fault);
  const began = performance.now();
  const failure = expect.stringMatching(/too busy \(HTTP 503\).*asks to wait 300 s/);
  await expect(storage.now({ signal })).rejects.toMatchObject({ code: 'NETWORK', message: failure });
  expect(performance.now() - began).toBeLessThan(1000);
});

test('pauses are of different lengths', async () => {
  const storage = await open({ limits: { pauseMs: 100, longestPauseMs: 100 } });
  const times = await Promise.all(
    Array.from({ length: 12 }, async () => {
      proxy.plan(TOO_BUSY);
      const began = performance.now();
      await storage.now({ signal });
      return performance.now() - began;
    }),
  );
  expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(15);
});

test('a body that is cut again and again goes on where it was, and is not read from its beginning', async () => {
  const storage = await open();
  const name = newName();
  const content = noise(4 << 20);
  await storage.put(name, [content], { signal });
  const before = storage.traffic().received;
  // More of them than attempts: each brings something.
  for (let cut = 0; cut < 8; cut++) proxy.plan({ kind: 'cut answer', after: 400_000 });
  expect((await storage.get(name, { signal }))?.bytes.equals(content)).toBe(true);
  expect(storage.traffic().received - before).toBeLessThan(content.length * 1.05);
});

test.each([undefined, { offset: 1, length: 3_000_000 }])(
  'an object that is replaced between two parts of it is read anew: %j',
  async (range) => {
    const storage = await open();
    const name = newName();
    const contents = [noise(4 << 20, 1), noise(4 << 20, 2)];
    await storage.put(name, [contents[0]], { signal });
    proxy.plan({ kind: 'stall answer', after: 1 << 20 }, { to: ({ method }) => method === 'GET' });
    const reading = storage.get(name, { signal, range });
    await new Promise((resolve) => setTimeout(resolve, 200));
    await storage.put(name, [contents[1]], { signal });
    const { offset = 0, length = contents[1].length } = range ?? {};
    expect((await reading)?.bytes.equals(contents[1].subarray(offset, offset + length))).toBe(true);
  },
);

test('a slow body is waited for while it comes, and given up when it hardly does', async () => {
  const storage = await open({ limits: { idleMs: 400, leastRate: 200_000 } });
  const name = newName();
  const content = noise(1_500_000);
  await storage.put(name, [content], { signal });
  proxy.plan({ kind: 'slow answer', bytesPerSecond: 1_000_000 });
  expect((await storage.get(name, { signal }))?.bytes.equals(content)).toBe(true);
  proxy.plan({ kind: 'slow answer', bytesPerSecond: 2000 }, { times: 1000 });
  const failure = expect.stringContaining('does not answer in time');
  await expect(storage.get(name, { signal })).rejects.toMatchObject({ code: 'NETWORK', message: failure });
});

test('what goes up has a sum with it that the storage compares', async () => {
  const storage = await open({ limits: { singlePut: 1000, blockBytes: 1000 } });
  const before = proxy.seen().length;
  await storage.put(newName(), [noise(1000)], { signal });
  await storage.put(newName(), [noise(1001)], { signal });
  const sums = proxy
    .seen()
    .slice(before)
    .map(({ url, headers }) => [/comp=(\w+)/.exec(url)?.[1], 'content-md5' in headers]);
  expect(sums).toEqual([
    [undefined, true],
    ['block', true],
    ['block', true],
    ['blocklist', false],
  ]);
});

test('wrong bytes are noticed on the way there and back', async () => {
  const storage = await open();
  const name = newName();
  const content = noise(300_000);
  const isPut = ({ method }: { method: string }) => method === 'PUT';
  proxy.plan({ kind: 'spoil request' }, { to: isPut });
  expect(await requests(() => storage.put(name, [content], { signal }))).toBe(2);
  const direct = await open({ endpoint: azurite.endpoint });
  expect((await direct.get(name, { signal }))?.bytes.equals(content)).toBe(true);
  proxy.plan({ kind: 'spoil answer' });
  expect((await storage.get(name, { signal }))?.bytes.equals(content)).toBe(true);
  proxy.plan({ kind: 'spoil request' }, { times: 1000, to: isPut });
  await expect(storage.put(name, [content], { signal })).rejects.toMatchObject({ code: 'NETWORK' });
});

test('blocks of a large body are repeated one by one', async () => {
  const storage = await open({ limits: { singlePut: 1 << 20, blockBytes: 1 << 20, leastRate: 1 << 20 } });
  const name = newName();
  const content = noise((6 << 20) + 17);
  const isBlock = ({ url }: { url: string }) => url.includes('comp=block&');
  proxy.plan({ kind: 'cut request', after: 300_000 }, { to: isBlock });
  proxy.plan({ kind: 'spoil request' }, { to: isBlock });
  proxy.plan({ kind: 'lose answer' }, { to: isBlock });
  proxy.plan(TOO_BUSY, { to: isBlock });
  proxy.plan({ kind: 'lose answer' }, { to: ({ url }) => url.includes('comp=blocklist') });
  // 7 blocks and the list of them, what was repeated, and a look at whose it is.
  expect(await requests(() => storage.put(name, [content], { signal, expected: 'nothing' }))).toBe(
    7 + 4 + 1 + 1 + 1,
  );
  expect((await storage.get(name, { signal }))?.bytes.equals(content)).toBe(true);
});

test('writers of one large object do not mix their blocks, and one wins', async () => {
  const limits = { singlePut: 100_000, blockBytes: 100_000 };
  const storages = await Promise.all([1, 2, 3, 4].map(() => open({ limits })));
  const name = newName();
  const contents = storages.map((_, at) => noise(1_000_000, at));
  const won = await Promise.all(
    storages.map((storage, at) => storage.put(name, [contents[at]], { signal, expected: 'nothing' })),
  );
  expect(won.filter(Boolean)).toHaveLength(1);
  const got = await storages[0].get(name, { signal });
  expect(got?.bytes.equals(contents[won.findIndex(Boolean)])).toBe(true);
  await Promise.all(storages.map((storage, at) => storage.put(name, [contents[at]], { signal })));
  const last = await storages[0].get(name, { signal });
  expect(contents.some((content) => last?.bytes.equals(content))).toBe(true);
});

test('a conditional write whose answer is lost is not taken for a lost race', async () => {
  const storage = await open();
  const name = newName();
  const isPut = ({ method }: { method: string }) => method === 'PUT';
  proxy.plan({ kind: 'lose answer' }, { to: isPut });
  const first = await storage.put(name, [Buffer.from('first')], { signal, expected: 'nothing' });
  expect(first?.version).toBe((await storage.get(name, { signal }))?.version);
  proxy.plan({ kind: 'lose answer' }, { to: isPut });
  const second = await storage.put(name, [Buffer.from('second')], { signal, expected: first! });
  expect(second?.version).toBe((await storage.get(name, { signal }))?.version);
  proxy.plan({ kind: 'lose answer' }, { to: ({ method }) => method === 'DELETE' });
  expect(await storage.delete(name, { signal, version: second!.version })).toBe(true);
});

test('a lost race is one, also after an attempt that nobody knows the end of, and with the same bytes', async () => {
  const storage = await open();
  const direct = await open({ endpoint: azurite.endpoint });
  const name = newName();
  await direct.put(name, [Buffer.from('same')], { signal });
  proxy.plan({ kind: 'cut request', after: 0 });
  expect(await storage.put(name, [Buffer.from('same')], { signal, expected: 'nothing' })).toBeUndefined();
  proxy.plan({ kind: 'lose answer' });
  expect(
    await storage.put(name, [Buffer.from('x')], { signal, expected: { version: 'other' } }),
  ).toBeUndefined();
});

const held: [what: string, fault: Fault][] = [
  ['no answer', { kind: 'black hole' }],
  ['an answer that stands still', { kind: 'stall answer', after: 1000 }],
  ['a pause', { ...TOO_BUSY, headers: { 'retry-after': '20' } } as Fault],
];

test.each(held)('who gives up during %s need not wait', async (_, fault) => {
  const storage = await open({ limits: { idleMs: 30_000, withinMs: 60_000 } });
  const name = newName();
  await storage.put(name, [noise(300_000)], { signal });
  const calls: ((signal: AbortSignal) => Promise<unknown>)[] = [
    (given) => storage.get(name, { signal: given }),
    (given) => storage.list(name, { signal: given })[Symbol.asyncIterator]().next(),
    (given) => storage.put(newName(), [noise(300_000)], { signal: given }),
  ];
  for (const call of fault.kind === 'stall answer' ? calls.slice(0, 1) : calls) {
    proxy.plan(fault);
    const given = new AbortController();
    const failure = expect(call(given.signal)).rejects.toThrow('given up');
    await new Promise((resolve) => setTimeout(resolve, 100));
    const began = performance.now();
    given.abort(new Error('given up'));
    await failure;
    expect(performance.now() - began).toBeLessThan(200);
  }
});

test('connections are kept, and there are no more than it takes', async () => {
  const storage = await open();
  const name = newName();
  await storage.put(name, [noise(1000)], { signal });
  const before = proxy.connections();
  for (let round = 0; round < 30; round++) await storage.get(name, { signal });
  expect(proxy.connections()).toBe(before);
});

test('a container that is not there', async () => {
  const storage = await open({ container: 'not-made' });
  const failure = {
    code: 'NOT_FOUND',
    message: expect.stringContaining("the container 'not-made' of the account 'lazytreetest' does not exist"),
    hint: expect.stringContaining('az storage container create'),
  };
  const sent = await requests(async () => {
    await expect(storage.get('x', { signal })).rejects.toMatchObject(failure);
    await expect(storage.get('x', { signal, range: { offset: 0, length: 0 } })).rejects.toMatchObject(
      failure,
    );
    await expect(storage.put('x', [Buffer.from('x')], { signal })).rejects.toMatchObject(failure);
    await expect(storage.put('x', [], { signal, expected: 'nothing' })).rejects.toMatchObject(failure);
    await expect(storage.delete('x', { signal })).rejects.toMatchObject(failure);
    await expect(storage.now({ signal })).rejects.toMatchObject(failure);
    await expect(storage.list('', { signal })[Symbol.asyncIterator]().next()).rejects.toMatchObject(failure);
  });
  expect(sent).toBe(7);
});

test('credentials that are refused are not tried again, and it is said which they were', async () => {
  const storage = await open({ key: randomBytes(64).toString('base64') });
  const failure = {
    code: 'REFUSED',
    message: expect.stringMatching(/refused \(HTTP 403, \w+.*the account key in AZURE_STORAGE_KEY/),
  };
  expect(await requests(() => expect(storage.get('x', { signal })).rejects.toMatchObject(failure))).toBe(1);
});

test('a right that is missing has its own advice', async () => {
  const storage = await open();
  proxy.plan({
    kind: 'answer',
    status: 403,
    headers: { 'x-ms-error-code': 'AuthorizationPermissionMismatch' },
  });
  await expect(storage.get('x', { signal })).rejects.toMatchObject({
    code: 'REFUSED',
    hint: expect.stringContaining('Storage Blob Data Contributor'),
  });
});

test.each([
  [47, 'behind'],
  [-90, 'ahead of'],
])('a clock that is %i minutes off is named as what is wrong', async (minutes, which) => {
  const storage = await open();
  proxy.plan({
    kind: 'answer',
    status: 403,
    headers: {
      'x-ms-error-code': 'AuthenticationFailed',
      date: new Date(Date.now() + minutes * 60_000).toUTCString(),
    },
  });
  await expect(storage.get('x', { signal })).rejects.toMatchObject({
    code: 'REFUSED',
    message: expect.stringContaining(
      `the clock of this machine is ${Math.abs(minutes)} minutes ${which} that of the storage`,
    ),
  });
});

test('its time is that of the storage', async () => {
  const storage = await open();
  proxy.plan({ kind: 'shift date', milliseconds: 3600_000 });
  const ahead = (await storage.now({ signal })) - Date.now();
  expect(Math.abs(ahead - 3600_000)).toBeLessThan(2500);
});

test('nobody who listens, and no host', async () => {
  const closed = await open({ endpoint: 'http://127.0.0.1:1/lazytreetest' });
  await expect(closed.get('x', { signal })).rejects.toMatchObject({
    code: 'NETWORK',
    message: expect.stringMatching(/127\.0\.0\.1:1: nobody listens there; 4 attempts/),
  });
  const unknown = await open({ endpoint: 'http://no-such-account.invalid' });
  await expect(unknown.get('x', { signal })).rejects.toMatchObject({ code: 'NETWORK' });
});

test('what is no storage is an error that says so', async () => {
  const storage = await open();
  proxy.plan({ kind: 'answer', status: 404, body: '<html>nothing here</html>' }, { times: 10 });
  await expect(storage.get('x', { signal })).rejects.toMatchObject({
    code: 'NETWORK',
    hint: expect.stringContaining('endpoint'),
  });
  await expect(storage.delete('x', { signal })).rejects.toMatchObject({ code: 'NETWORK' });
});

test('no secret is in any error, however it is written down', async () => {
  const key = randomBytes(64).toString('base64');
  const signature = randomBytes(32).toString('base64');
  const sas = `sv=2024-11-04&ss=b&srt=co&sp=rwdlc&se=2099-01-01T00:00:00Z&sig=${encodeURIComponent(signature)}`;
  const faults: Fault[] = [
    ...passing.map(([, fault]) => fault),
    {
      kind: 'answer',
      status: 403,
      headers: { 'x-ms-error-code': 'AuthenticationFailed' },
      body: `<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code><Message>Signature did not match: ${signature} ${key}</Message></Error>`,
    },
    { kind: 'answer', status: 404 },
    {
      kind: 'answer',
      status: 400,
      headers: { 'x-ms-error-code': `sig=${signature}` },
      body: `sig=${signature}`,
    },
    { kind: 'answer', status: 409, headers: { 'x-ms-error-code': 'LeaseIdMissing' } },
    { kind: 'answer', status: 302, headers: { location: `http://127.0.0.1:1/?sig=${signature}` } },
    { kind: 'answer', status: 200, body: 'no xml', headers: { 'content-type': 'application/xml' } },
  ];
  const written: string[] = [];
  const log = createLog({ write: (line) => written.push(line) }, 'debug');
  const limits = { attempts: 2, pauseMs: 1, idleMs: 100 };
  const storages = [await open({ key, limits }), await open({ sas, limits }), await open({ limits })];
  let failures = 0;
  const note = (error: unknown) => {
    failures++;
    written.push(
      inspect(error, { depth: 20, showHidden: true }),
      JSON.stringify(error),
      String((error as Error).stack),
    );
    log.error({ err: error, error }, 'failed');
  };
  const spoken = process.stderr.write;
  process.stderr.write = ((text: string) => written.push(String(text)) > 0) as typeof spoken;
  try {
    for (const storage of storages) {
      written.push(inspect(storage, { depth: 20, showHidden: true }), storage.describe());
      for (const fault of faults) {
        const calls = [
          () => storage.get('x', { signal }),
          () => storage.put('x', [Buffer.from('x')], { signal, expected: 'nothing' }),
          () => storage.list('', { signal })[Symbol.asyncIterator]().next(),
          () => storage.delete('x', { signal }),
          () => storage.now({ signal }),
        ];
        for (const call of calls) {
          proxy.clear();
          proxy.plan(fault, { times: 100 });
          await call().catch(note);
        }
      }
    }
  } finally {
    process.stderr.write = spoken;
  }
  expect(failures).toBeGreaterThan(150);
  const all = written.join('\n');
  expect(all).not.toMatch(/authorization['"]?\s*:/i);
  for (const secret of [key, signature, encodeURIComponent(signature), azurite.key, 'SharedKey ', 'sig='])
    expect({ secret, found: all.toLowerCase().includes(secret.toLowerCase()) }).toEqual({
      secret,
      found: false,
    });
});
