// registry-process.mjs CACHE PORT: stands for the configured registry, until it is killed. What it was ever asked for it
// keeps in CACHE. Each client has a path of its own, `/NAME/`; at `/` is what every one of them has asked for and got.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import registryFetch from 'npm-registry-fetch';
import { readNpmConfig } from '../../../packages/node/dist/origins/npm/npm-config.js';

/** Of every answer, as if it was far away. */
const DELAY_MS = 20;
const ABBREVIATED = 'application/vnd.npm.install-v1+json';

const [, , cache, port] = process.argv;
const config = await readNpmConfig({ directory: process.cwd(), environment: process.env });
const registry = registryFetch.pickRegistry('any', config).replace(/\/*$/, '/');
mkdirSync(cache, { recursive: true });

/** @type {Record<string, { requests: number, bytes: number }>} */
const told = {};
/** @type {Map<string, Promise<{ status: number, type: string, body: Buffer }>>} */
const fetched = new Map();
/** @type {Map<string, Buffer>} */
const made = new Map();

createServer(async (request, response) => {
  const [, client = '', path = ''] = /^\/([^/]*)\/?(.*)$/.exec(request.url ?? '/') ?? [];
  if (client === '') {
    response.end(JSON.stringify(told));
    return;
  }
  told[client] ??= { requests: 0, bytes: 0 };
  told[client].requests++;
  const [{ status, headers, body }] = await Promise.all([answerOf(client, path, request), sleep(DELAY_MS)]);
  told[client].bytes += body.length;
  response.writeHead(status, { ...headers, 'content-length': body.length }).end(body);
}).listen(Number(port), '127.0.0.1');

/**
 * @param {string} client
 * @param {string} path
 * @param {import('node:http').IncomingMessage} request
 */
async function answerOf(client, path, { headers }) {
  const isTarball = path.endsWith('.tgz');
  const kind = String(headers.accept).includes(ABBREVIATED) ? ABBREVIATED : 'application/json';
  const key = `${isTarball ? '' : kind} ${path}`;
  const known = fetched.get(key) ?? fromCache(key, path, isTarball ? '*/*' : kind);
  fetched.set(key, known);
  const { status, type, body } = await known;
  if (isTarball || status !== 200) return { status, headers: { 'content-type': type }, body };
  const name = `${client} ${key}`;
  // Addresses of tarballs lead back here.
  const own =
    made.get(name) ?? gzipSync(body.toString().replaceAll(registry, `http://127.0.0.1:${port}/${client}/`));
  made.set(name, own);
  return { status, headers: { 'content-type': type, 'content-encoding': 'gzip' }, body: own };
}

/**
 * @param {string} key
 * @param {string} path
 * @param {string} accept
 */
async function fromCache(key, path, accept) {
  const file = join(cache, createHash('sha256').update(`${registry} ${key}`).digest('hex'));
  const type = accept === '*/*' ? 'application/octet-stream' : accept;
  if (existsSync(file)) return { status: 200, type, body: readFileSync(file) };
  try {
    const answer = await registryFetch(`${registry}${path}`, { ...config, headers: { accept } });
    const pieces = [];
    for await (const piece of answer.body) pieces.push(piece);
    const body = Buffer.concat(pieces);
    writeFileSync(`${file}.${process.pid}`, body);
    renameSync(`${file}.${process.pid}`, file);
    return { status: 200, type, body };
  } catch (error) {
    const { statusCode = 502, message } = /** @type {Error & { statusCode?: number }} */ (error);
    return { status: statusCode, type: 'text/plain', body: Buffer.from(message) };
  }
}
