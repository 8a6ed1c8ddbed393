// Two Syncthing nodes on loopback that know each other and nobody else.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isListening, serve } from './cluster.mjs';
import { run } from './command.mjs';
import { copyCorpus } from './corpus.mjs';
import { have } from './peers.mjs';
import { verifySameTree } from './trees.mjs';

export const SYNCTHING = 'syncthing';
const KEY = 'bench';
const FOLDER = 'tree';
const POLL_MS = 50;
const MOST_SECONDS = 300;

/**
 * @typedef {import('./context.mjs').Context} Context
 * @typedef {{ id: string, gui: number, ask: (path: string, body?: unknown) => Promise<any> }} Instance
 */

/**
 * Of a copy of the corpus: it leaves its marker in what it serves.
 * @param {Context} context
 * @returns {Promise<number | undefined>} seconds from when the second is told of the folder until it has all of it;
 * undefined when it is not installed
 */
export async function syncthing(context) {
  if (!have('syncthing')) return undefined;
  const tree = copyCorpus(context.corpus(), join(context.fresh('served'), 'tree'));
  using stack = new DisposableStack();
  const ports = [28_740, 28_750];
  const [source, target] = ports.map((port) => startInstance(stack, context, port));
  for (const [one, other, port] of /** @type {const} */ ([
    [source, target, ports[1]],
    [target, source, ports[0]],
  ])) {
    await one.ask('config/devices', { deviceID: other.id, addresses: [`tcp://127.0.0.1:${port}`] });
  }
  await source.ask('config/folders', folder(tree, [source, target], 'sendonly'));
  await until(async () => (await source.ask(`db/status?folder=${FOLDER}`)).state === 'idle');
  const { globalFiles } = await source.ask(`db/status?folder=${FOLDER}`);
  await until(async () => (await target.ask('system/connections')).connections[source.id]?.connected);
  const copy = join(context.fresh('copy'), 'tree');
  run({ argv: ['sync'] });
  const began = performance.now();
  await target.ask('config/folders', folder(copy, [source, target], 'receiveonly'));
  await until(async () => {
    const status = await target.ask(`db/status?folder=${FOLDER}`).catch(() => undefined);
    return status?.globalFiles === globalFiles && status.needTotalItems === 0 && status.state === 'idle';
  });
  const seconds = (performance.now() - began) / 1000;
  for (const path of [tree, copy]) run({ argv: ['rm', '-rf', join(path, '.stfolder')] });
  verifySameTree(tree, copy);
  return seconds;
}

/**
 * @param {string} path
 * @param {Instance[]} devices
 * @param {string} type
 */
function folder(path, devices, type) {
  return {
    id: FOLDER,
    path,
    type,
    devices: devices.map(({ id }) => ({ deviceID: id })),
    fsWatcherEnabled: false,
    ignorePerms: false,
  };
}

/**
 * @param {DisposableStack} stack ends it
 * @param {Context} context
 * @param {number} port and the next one, for its API
 * @returns {Instance}
 */
function startInstance(stack, context, port) {
  const home = context.fresh('syncthing');
  const gui = port + 1;
  run({ argv: ['syncthing', 'generate', `--home=${home}`] });
  const file = join(home, 'config.xml');
  const settings = {
    globalAnnounceEnabled: 'false',
    localAnnounceEnabled: 'false',
    relaysEnabled: 'false',
    natEnabled: 'false',
    crashReportingEnabled: 'false',
    autoUpgradeIntervalH: '0',
    urAccepted: '-1',
    listenAddress: `tcp://127.0.0.1:${port}`,
    apikey: KEY,
  };
  let config = readFileSync(file, 'utf8').replace(/<folder [\s\S]*?<\/folder>\s*/, '');
  for (const [name, value] of Object.entries(settings))
    config = config.replace(new RegExp(`<${name}>[^<]*</${name}>`), `<${name}>${value}</${name}>`);
  config = config.replace(/<address>127\.0\.0\.1:\d+<\/address>/, `<address>127.0.0.1:${gui}</address>`);
  writeFileSync(file, config);
  const argv = ['syncthing', 'serve', `--home=${home}`, '--no-browser', '--no-restart', '--logflags=0'];
  // Without a process that watches over it, and would be all that is ended.
  serve(stack, { argv, env: { STMONITORED: 'yes' } }, () => isListening(gui));
  const id = run({ argv: ['syncthing', `--home=${home}`, '--device-id'] }).trim();
  return { id, gui, ask };

  /**
   * @param {string} path
   * @param {unknown} [body] to be put there
   */
  async function ask(path, body) {
    const response = await fetch(`http://127.0.0.1:${gui}/rest/${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { 'X-API-Key': KEY },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`syncthing ${path}: ${response.status} ${await response.text()}`);
    return body === undefined ? response.json() : undefined;
  }
}

/** @param {() => Promise<unknown>} condition */
async function until(condition) {
  const end = performance.now() + MOST_SECONDS * 1000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`syncthing: not within ${MOST_SECONDS} s`);
    await sleep(POLL_MS);
  }
}
