import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, request as forward, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { formatLink } from '@lazytree/core';
import { beforeEach, describe, expect, it } from 'vitest';
import { afterwards, errorOf, pseudoRandom } from '../../../../core/test/helpers.js';
import { driver } from '../../../dist/origins/npm/npm-driver.js';
import { startPackageThreads } from '../../../dist/origins/npm/package-threads.js';
import { unpackPackage } from '../../../src/origins/npm/unpack-package.js';
import { type ContextOptions, driverContext } from '../driver-context.js';
import { integrityOf } from './packed.js';
import { type Registry, registry } from './registry.js';

/** More than waits in memory. */
const LARGE = pseudoRandom(6 << 20).toString('base64');
const SMALL = pseudoRandom(60_000).toString('base64');

let at: Registry;
beforeEach(async () => {
  at = await registry();
  startPackageThreads();
});

const context = (options: ContextOptions = {}) =>
  driverContext({ environment: at.environment, directory: at.directory, ...options });

/** Its root when it is unpacked here. */
async function rootHere(tarball: Buffer): Promise<string> {
  const { newTree, signal } = await context();
  const tree = newTree();
  await unpackPackage(tree, tarball, { what: 'it', signal });
  return formatLink((await tree.finish()).link);
}

async function listening(answer: RequestListener | Server, host = '127.0.0.1'): Promise<string> {
  const server = typeof answer === 'function' ? createServer(answer) : answer;
  server.listen(0, host);
  await once(server, 'listening');
  afterwards(() => {
    server.closeAllConnections();
    server.close();
  });
  return `${host}:${(server.address() as AddressInfo).port}`;
}

describe('a package that comes in a thread', () => {
  it.each([
    ['small', { files: { 'index.js': SMALL } }],
    ['large', { files: { 'index.js': LARGE } }],
    ['large, and small as it is packed', { files: { 'index.js': '\n'.repeat(40 << 20) } }],
  ])('%s, is what it is here, and costs what it costs', async (_, published) => {
    const tarball = at.publish({ name: 'a', version: '1.0.0', scripts: { install: 'x' } }, published);
    const given = await context();
    const pin = { reference: 'a@1.0.0', integrity: integrityOf(tarball) };
    const { entry, integrity, notes } = await driver.fetch(pin, given);
    expect(formatLink(entry.link)).toBe(await rootHere(tarball));
    expect(integrity).toBe(pin.integrity);
    expect(notes).toEqual(['a@1.0.0 has install scripts (install) that were not run']);
    expect(given.received).toEqual({ bytes: tarball.length, requests: 1 });
    expect(given.progress[0]).toEqual({ doing: 'downloading a@1.0.0', bytes: 0 });
    expect(await readdir(await given.cacheDirectory())).toEqual([]);
    expect(given.open()).toBe(0);
  });

  it.each([
    ['small', SMALL],
    ['large', LARGE],
  ])('%s, goes on where it was cut', async (_, content) => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' }, { files: { content } });
    at.breakOff(2);
    const given = await context();
    const { entry } = await driver.fetch({ reference: 'a@1.0.0', integrity: integrityOf(tarball) }, given);
    expect(formatLink(entry.link)).toBe(await rootHere(tarball));
    expect(at.log).toHaveLength(3);
    expect(at.log[2]).toMatch(/bytes=\d+-$/);
    expect(given.received).toEqual({ bytes: tarball.length, requests: 3 });
    expect(await readdir(await given.cacheDirectory())).toEqual([]);
  });

  it.each([
    ['small', SMALL],
    ['large', LARGE],
  ])('%s, leaves nothing when it is something else', async (_, content) => {
    at.publish({ name: 'a', version: '1.0.0' }, { files: { content } });
    const given = await context();
    const pin = { reference: 'a@1.0.0', integrity: integrityOf(Buffer.from('b')) };
    expect(await errorOf(driver.fetch(pin, given))).toMatchObject({
      code: 'CORRUPT',
      message: expect.stringContaining('a@1.0.0'),
    });
    await given.store.flush();
    for await (const link of given.store.links()) expect.unreachable(formatLink(link));
    expect(await readdir(await given.cacheDirectory())).toEqual([]);
  });

  it('is given up after the time that .npmrc says, and after the attempts', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' });
    const pin = { reference: 'a@1.0.0', integrity: integrityOf(tarball) };
    const environment = { ...at.environment, npm_config_fetch_timeout: '300', npm_config_fetch_retries: '1' };
    const go = at.stall();
    const error = (await errorOf(driver.fetch(pin, await context({ environment })))) as Error;
    expect(error).toMatchObject({ code: 'NETWORK' });
    expect(error.message).toContain('2 attempts');
    expect(at.log).toHaveLength(2);
    go();
    await driver.fetch(pin, await context({ environment }));
  });

  it('is asked for again where it was left when a registry falls silent', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' }, { files: { content: SMALL } });
    const ranges: (string | undefined)[] = [];
    const host = await listening(({ headers: { range } }, response) => {
      ranges.push(range);
      const from = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
      const said = { etag: '"x"', 'content-length': tarball.length - from };
      if (from > 0) {
        const part = `bytes ${from}-${tarball.length - 1}/${tarball.length}`;
        response.writeHead(206, { ...said, 'content-range': part }).end(tarball.subarray(from));
      } else response.writeHead(200, said).write(tarball.subarray(0, 1000));
    });
    const environment = { ...at.environment, npm_config_fetch_timeout: '300' };
    const given = await context({ environment });
    const { integrity } = await driver.fetch({ reference: `http://${host}/a.tgz` }, given);
    expect(integrity).toBe(integrityOf(tarball));
    expect(ranges).toEqual([undefined, 'bytes=1000-']);
  });

  it('is let go of when nobody wants it any more, and others come', async () => {
    const closed = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    const tarball = at.publish({ name: 'a', version: '1.0.0' });
    const silent = await listening((request, response) => {
      response.writeHead(200, { 'content-length': 1000 }).write('x');
      request.socket.on('close', () => closed.resolve());
      asked.resolve();
    });
    const stop = new AbortController();
    const waiting = driver.fetch(
      { reference: `http://${silent}/a.tgz` },
      await context({ signal: stop.signal }),
    );
    await asked.promise;
    const why = new Error('not any more');
    stop.abort(why);
    expect(await errorOf(waiting)).toBe(why);
    await closed.promise;
    await driver.fetch({ reference: 'a@1.0.0', integrity: integrityOf(tarball) }, await context());
  });

  it('comes also when nobody waits for it', async () => {
    const pins = Array.from({ length: 40 }, (_, i) => {
      const tarball = at.publish({ name: `a${i}`, version: '1.0.0' });
      return { reference: `a${i}@1.0.0`, integrity: integrityOf(tarball) };
    });
    const given = { ...(await context()), isAhead: () => true };
    const stop = new AbortController();
    const unwanted = { ...given, signal: stop.signal };
    const coming = pins.map((pin, i) => driver.fetch(pin, i % 2 === 0 ? given : unwanted));
    stop.abort();
    const ended = await Promise.allSettled(coming);
    expect(ended.filter(({ status }) => status === 'fulfilled')).toHaveLength(20);
    await driver.fetch(pins[1], given);
  });

  it('fails alone when what is large has no place', async () => {
    const large = at.publish({ name: 'a', version: '1.0.0' }, { files: { LARGE } });
    const small = at.publish({ name: 'b', version: '1.0.0' });
    const given = await context();
    const full = { ...given, cacheDirectory: async () => join(at.directory, 'none') };
    const [a, b] = await Promise.allSettled([
      driver.fetch({ reference: 'a@1.0.0', integrity: integrityOf(large) }, full),
      driver.fetch({ reference: 'b@1.0.0', integrity: integrityOf(small) }, given),
    ]);
    expect(a).toMatchObject({ status: 'rejected', reason: { code: expect.stringMatching(/NOT_FOUND/) } });
    expect(b.status).toBe('fulfilled');
  });
});

describe('settings of npm, in a thread', () => {
  it('a token is for the host that it is of, also where that leads elsewhere', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' });
    const seen: (string | undefined)[] = [];
    const other = await listening(({ headers }, response) => {
      seen.push(headers.authorization);
      response.end(tarball);
    }, '127.0.0.2');
    const own = await listening(({ url, headers }, response) => {
      seen.push(headers.authorization);
      if (url === '/away.tgz') response.writeHead(302, { location: `http://${other}/a.tgz` }).end();
      else response.end(tarball);
    });
    await writeFile(join(at.directory, '.npmrc'), `//${own}/:_authToken=\${TOKEN}\n`);
    const environment = { ...at.environment, TOKEN: 'hush' };
    for (const path of [`${own}/a.tgz`, `${other}/a.tgz`, `${own}/away.tgz`]) {
      const { integrity } = await driver.fetch(
        { reference: `http://${path}` },
        await context({ environment }),
      );
      expect(integrity).toBe(integrityOf(tarball));
    }
    expect(seen).toEqual(['Bearer hush', undefined, 'Bearer hush', undefined]);
  });

  it('what is refused says so, without the token', async () => {
    const host = await listening((_, response) => response.writeHead(403).end());
    await writeFile(join(at.directory, '.npmrc'), `//${host}/:_authToken=wrong-one\n`);
    const error = (await errorOf(driver.fetch({ reference: `http://${host}/a.tgz` }, await context()))) as {
      message: string;
      hint: string;
    };
    expect(error).toMatchObject({ code: 'REFUSED', hint: expect.stringContaining(`//${host}/:_authToken`) });
    expect(JSON.stringify([error.message, error.hint])).not.toContain('wrong-one');
  });

  it('a proxy is asked, except for hosts that need none', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' });
    const asked: string[] = [];
    const proxy = await listening((request, response) => {
      asked.push(request.url ?? '');
      const { method, headers, url = '' } = request;
      forward(url, { method, headers, agent: false }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      }).end();
    });
    const pin = { reference: 'a@1.0.0', integrity: integrityOf(tarball) };
    const environment = { ...at.environment, npm_config_proxy: `http://${proxy}` };
    await driver.fetch(pin, await context({ environment }));
    expect(asked).toEqual([`${at.url}/a/-/a-1.0.0.tgz`]);
    await driver.fetch(
      pin,
      await context({ environment: { ...environment, npm_config_noproxy: '127.0.0.1' } }),
    );
    expect(asked).toHaveLength(1);
    expect(at.log).toHaveLength(2);
  });

  it('whoever asks says who it is as npm does', async () => {
    const tarball = at.publish({ name: 'a', version: '1.0.0' });
    let agent: string | undefined;
    const host = await listening(({ headers }, response) => {
      agent = headers['user-agent'];
      response.end(tarball);
    });
    const environment = { ...at.environment, npm_config_user_agent: 'somebody' };
    await driver.fetch({ reference: `http://${host}/a.tgz` }, await context({ environment }));
    expect(agent).toBe('somebody');
  });

  it.skipIf(spawnSync('openssl', ['version']).status !== 0)(
    'certificates are checked as they say, also behind a proxy, and shown to who is to see them',
    async () => {
      const [key, cert] = [join(at.directory, 'key.pem'), join(at.directory, 'cert.pem')];
      const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=us'];
      const names = ['-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
      execFileSync('openssl', [...request, ...names, '-keyout', key, '-out', cert], { stdio: 'ignore' });
      const tarball = at.publish({ name: 'a', version: '1.0.0' });
      const shown: (string | undefined)[] = [];
      const server = createSecureServer(
        {
          key: await readFile(key),
          cert: await readFile(cert),
          requestCert: true,
          rejectUnauthorized: false,
        },
        ({ socket }, response) => {
          shown.push((socket as TLSSocket).getPeerCertificate().subject?.CN as string | undefined);
          response.end(tarball);
        },
      );
      const host = await listening(server as unknown as Server);
      const tunnels: (string | undefined)[] = [];
      const proxy = createServer().on('connect', ({ url }, socket) => {
        tunnels.push(url);
        const { port, hostname } = new URL(`http://${url}`);
        const there = connect(Number(port), hostname, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
        socket.on('error', () => there.destroy());
        there.on('error', () => socket.destroy());
        socket.pipe(there).pipe(socket);
      });
      const proxyHost = await listening(proxy);
      const get = async (settings: Record<string, string>) => {
        const environment = { ...at.environment, npm_config_fetch_retries: '0', ...settings };
        return driver.fetch({ reference: `https://${host}/a.tgz` }, await context({ environment }));
      };
      expect(await errorOf(get({}))).toMatchObject({ code: 'NETWORK' });
      const trusting = { npm_config_cafile: cert };
      const ways: Record<string, string>[] = [
        trusting,
        { npm_config_strict_ssl: 'false' },
        { ...trusting, npm_config_https_proxy: `http://${proxyHost}` },
      ];
      for (const settings of ways) expect((await get(settings)).integrity).toBe(integrityOf(tarball));
      expect(tunnels).toEqual([host]);
      await writeFile(
        join(at.directory, '.npmrc'),
        `//${host}/:certfile=${cert}\n//${host}/:keyfile=${key}\n`,
      );
      await get({ ...trusting, npm_config_noproxy: 'nowhere' });
      expect(shown).toEqual([undefined, undefined, undefined, 'us']);
    },
  );
});
