// The packages of a lockfile from a registry that is 20 ms away: `npm-lock:`, and what pnpm and npm install of it.
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OURS, playRound } from './lib/alternate.mjs';
import { addMember, formCluster, isListening, serve } from './lib/cluster.mjs';
import { run, shell, timed, VerificationError } from './lib/command.mjs';
import { corpusSource, MANIFESTS } from './lib/corpus.mjs';
import { startDaemon } from './lib/file-systems.mjs';
import { lazytree } from './lib/lazytree.mjs';
import { isMounted } from './lib/mount-points.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { NPM_CI, PNPM, packageManager } from './lib/package-managers.mjs';
import { bytesRow, timesRow, valueRow } from './lib/row.mjs';
import { verifySameTree } from './lib/trees.mjs';

const SERVER = fileURLToPath(new URL('./lib/registry-process.mjs', import.meta.url));
const PORT = 20_000 + (process.pid % 10_000);
const LOCK = 'npm-lock:package-lock.json';
const MAX_MOUNT_MS = { cold: 300, warm: 150 };
const MAX_WORK = 0.3;
const MAX_BYTES = 0.5;
const MAX_ALL = { pnpm: 1, npm: 0.2 };
const MAX_SECOND = 0.3;
const PNPM_OFFLINE = 'pnpm install --offline';
/** What is done, where everything is there already, on the disk's file system. */
const ALONE = 'nothing to install';
const MODULES = 'node_modules';

/** What is done with the packages, by name. Each in a directory of the project. */
const WORK = {
  "require('webpack')": [process.execPath, '--eval', "require('webpack')"],
  'jest --version': [process.execPath, 'node_modules/jest/bin/jest.js', '--version'],
  'a webpack build': [
    process.execPath,
    '--openssl-legacy-provider',
    'node_modules/webpack/bin/webpack.js',
    '--mode=production',
  ],
};

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/command.mjs').Command} Command
 * @typedef {import('./lib/alternate.mjs').Entry} Entry
 * @typedef {import('./lib/alternate.mjs').Times} Times
 * @typedef {import('./lib/package-managers.mjs').PackageManager} PackageManager
 *
 * @typedef {object} Scene
 * @property {Context} context
 * @property {PackageManager | undefined} pnpm
 * @property {PackageManager | undefined} npm
 * @property {string} pnpmLock
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  using stack = new DisposableStack();
  const cache = join(tmpdir(), 'lazytree-bench', 'registry');
  serve(stack, { argv: [process.execPath, SERVER, cache, String(PORT)] }, () => isListening(PORT));
  const scene = prepare(context);
  yield* mounts(scene);
  for (const name of /** @type {(keyof typeof WORK)[]} */ (Object.keys(WORK))) yield* work(scene, name);
  yield* materialise(scene);
  yield* second(scene);
  yield withPeer(scene);
}

/** @param {string} client */
function registryOf(client) {
  return `http://127.0.0.1:${PORT}/${client}/`;
}

/**
 * What a client has asked the registry for so far.
 * @param {string} client
 * @returns {{ requests: number, bytes: number }}
 */
function toldTo(client) {
  // In a process of its own: connections of this one, which waits for others most of the time, would be dead.
  const ask = `fetch('http://127.0.0.1:${PORT}/').then((answer) => answer.text()).then(console.log)`;
  const all = JSON.parse(run({ argv: [process.execPath, '--eval', ask] }));
  return all[client] ?? { requests: 0, bytes: 0 };
}

/**
 * The peers, a lockfile of pnpm's own, and all that is asked for in the registry's cache.
 * @param {Context} context
 * @returns {Scene}
 */
function prepare(context) {
  const [pnpm, npm] = [packageManager(context, 'pnpm'), packageManager(context, 'npm')];
  const pnpmLock = project(context);
  context.progress('asking for everything once, unless it is cached');
  if (pnpm) {
    const state = context.fresh('state');
    const registry = registryOf('pnpm');
    run(pnpm.command(state, registry, pnpmLock, 'import'));
    run(installWithPnpm(pnpm, state, pnpmLock));
  }
  if (npm) run(installWithNpm(npm, context.fresh('state'), project(context)));
  run(ours(context.fresh('home'), project(context), 'export', LOCK, MODULES));
  for (const client of [OURS, ...(pnpm ? ['pnpm'] : []), ...(npm ? ['npm'] : [])]) {
    if (toldTo(client).bytes === 0) throw new VerificationError(`${client} asks another registry`);
  }
  return { context, pnpm, npm, pnpmLock: join(pnpmLock, 'pnpm-lock.yaml') };
}

/**
 * A directory with a project, and nothing installed.
 * @param {Context} context
 * @param {Scene} [scene] with pnpm's lockfile
 */
function project(context, scene) {
  const directory = context.fresh('project');
  for (const name of MANIFESTS) copyFileSync(join(corpusSource(), name), join(directory, name));
  if (scene?.pnpm) copyFileSync(scene.pnpmLock, join(directory, 'pnpm-lock.yaml'));
  mkdirSync(join(directory, 'src'));
  const source = "const { debounce } = require('lodash');\nmodule.exports = [require('react'), debounce];\n";
  writeFileSync(join(directory, 'src', 'index.js'), source);
  return directory;
}

/**
 * @param {string} home
 * @param {string} cwd
 * @param {string[]} args
 * @returns {Command}
 */
function ours(home, cwd, ...args) {
  const { argv, env } = lazytree(home, ...args);
  const nothing = { npm_config_userconfig: join(home, 'no.npmrc') };
  return { argv, cwd, env: { ...env, ...nothing, npm_config_registry: registryOf(OURS) } };
}

/**
 * @param {PackageManager} pnpm
 * @param {string} state
 * @param {string} directory
 * @param {string[]} options
 */
function installWithPnpm(pnpm, state, directory, ...options) {
  const args = ['install', '--frozen-lockfile', '--ignore-scripts', ...options];
  return pnpm.command(state, registryOf('pnpm'), directory, ...args);
}

/**
 * @param {PackageManager} npm
 * @param {string} state
 * @param {string} directory
 */
function installWithNpm(npm, state, directory) {
  return npm.command(
    state,
    registryOf('npm'),
    directory,
    'ci',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
  );
}

/**
 * One command, and then another one.
 * @param {Command} first
 * @param {readonly string[]} next
 * @returns {Command}
 */
function then(first, next) {
  const words = [...first.argv.map(quoted), '>&2', '&&', ...next.map(quoted)];
  return { ...first, argv: shell(words.join(' ')).argv };
}

/** @param {string} word */
function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** @param {Scene} scene */
function mounts({ context }) {
  /** @type {{ cold: number[], warm: number[] }} */
  const seconds = { cold: [], warm: [] };
  const before = toldTo(OURS);
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`mounts of a lockfile, round ${round + 1}`);
    using stack = new DisposableStack();
    const [home, cwd, directory] = [context.fresh('home'), project(context), context.fresh('mnt')];
    startDaemon(stack, home);
    for (const kind of /** @type {const} */ (['cold', 'warm'])) {
      const mounting = then(ours(home, cwd, 'mount', LOCK, directory), ['ls', directory]);
      const { seconds: took, stdout } = timed(mounting);
      if (!stdout.includes('webpack')) throw new VerificationError(`${directory} has ${stdout}`);
      seconds[kind].push(took);
      run(lazytree(home, 'unmount', directory));
    }
    stack.defer(() => isMounted(directory) && run(lazytree(home, 'unmount', directory)));
  }
  const { requests } = toldTo(OURS);
  return [
    ...['cold', 'warm'].map((kind) =>
      valueRow(
        `${kind} mount of a lockfile, to the first ls`,
        quantity(median(seconds[/** @type {'cold'} */ (kind)]), 'ms'),
        {
          max: MAX_MOUNT_MS[/** @type {'cold'} */ (kind)],
          samples: seconds[/** @type {'cold'} */ (kind)],
        },
      ),
    ),
    valueRow('requests of these', { value: requests - before.requests, unit: 'requests' }, { max: 0 }),
  ];
}

/**
 * From nothing to work done.
 * @param {Scene} scene
 * @param {keyof typeof WORK} name
 */
function work(scene, name) {
  const { context, pnpm } = scene;
  /** @type {Times} */
  const times = new Map();
  /** @type {Map<string, number[]>} */
  const bytes = new Map();
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`${name}, round ${round + 1}`);
    using stack = new DisposableStack();
    const home = context.fresh('home');
    startDaemon(stack, home);
    const own = project(context);
    const create = ours(home, own, 'workspace', 'create', 'app', '--from', LOCK, MODULES);
    stack.defer(() => void run(lazytree(home, 'workspace', 'remove', '--discard', 'app')));
    /** @type {Entry[]} */
    const entries = [{ name: OURS, command: then(create, WORK[name]) }];
    const theirs = project(context, scene);
    if (pnpm) {
      const install = installWithPnpm(pnpm, context.fresh('state'), theirs);
      entries.push({ name: PNPM, command: then(install, WORK[name]) });
    }
    const clientOf = (/** @type {Entry} */ entry) => (entry.name === OURS ? OURS : 'pnpm');
    const before = entries.map((entry) => toldTo(clientOf(entry)));
    playRound(times, entries, round);
    if (pnpm) {
      // What it has kept of the first time would save it work.
      rmSync(join(theirs, MODULES, '.cache'), { recursive: true, force: true });
      const { seconds } = timed({ ...entries[0].command, argv: WORK[name], cwd: theirs });
      times.set(ALONE, [...(times.get(ALONE) ?? []), seconds]);
    }
    for (const [i, entry] of entries.entries()) {
      const after = toldTo(clientOf(entry));
      bytes.set(entry.name, [...(bytes.get(entry.name) ?? []), after.bytes - before[i].bytes]);
    }
  }
  const theirs = bytes.get(PNPM);
  const peers = new Map(theirs ? [[PNPM, median(theirs)]] : []);
  return [
    timesRow(`cold: ${name}`, times, { peer: PNPM, max: MAX_WORK }),
    bytesRow(`bytes downloaded for it`, median(bytes.get(OURS) ?? []), peers, { peer: PNPM, max: MAX_BYTES }),
  ];
}

/**
 * All of it on the disk, from nothing.
 * @param {Scene} scene
 */
function* materialise(scene) {
  const { context, pnpm, npm } = scene;
  /** @type {Times} */
  const times = new Map();
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`all packages, round ${round + 1}`);
    using stack = new DisposableStack();
    const home = context.fresh('home');
    startDaemon(stack, home);
    const [own, theirs] = [project(context), project(context)];
    /** @type {Entry[]} */
    const entries = [
      {
        name: OURS,
        command: ours(home, own, 'export', LOCK, MODULES),
        verify: () => verifySameTree(join(context.corpus().path, MODULES), join(own, MODULES)),
      },
    ];
    if (pnpm)
      entries.push({
        name: PNPM,
        command: installWithPnpm(pnpm, context.fresh('state'), project(context, scene)),
      });
    if (npm)
      entries.push({
        name: NPM_CI,
        command: installWithNpm(npm, context.fresh('state'), theirs),
        verify: () => verifySameTree(join(theirs, MODULES), join(own, MODULES)),
      });
    playRound(times, entries, round);
  }
  const only = (/** @type {string} */ peer) =>
    new Map([...times].filter(([name]) => name === OURS || name === peer));
  yield timesRow('cold export of a lockfile, all of it', only(PNPM), { peer: PNPM, max: MAX_ALL.pnpm });
  if (npm)
    yield timesRow('cold export of a lockfile, against npm ci', only(NPM_CI), {
      peer: NPM_CI,
      max: MAX_ALL.npm,
    });
}

/**
 * Another directory on a machine that has all packages.
 * @param {Scene} scene
 */
function* second(scene) {
  const { context, pnpm } = scene;
  /** @type {Times} */
  const times = new Map();
  using stack = new DisposableStack();
  const [home, state] = [context.fresh('home'), context.fresh('state')];
  startDaemon(stack, home);
  run(ours(home, project(context), 'export', LOCK, MODULES));
  if (pnpm) run(installWithPnpm(pnpm, state, project(context, scene)));
  for (let round = 0; round < context.rounds; round++) {
    const name = `app-${round}`;
    const create = ours(home, project(context), 'workspace', 'create', name, '--from', LOCK, MODULES);
    stack.defer(() => void run(lazytree(home, 'workspace', 'remove', '--discard', name)));
    /** @type {Entry[]} */
    const entries = [{ name: OURS, command: then(create, ['ls', MODULES]) }];
    if (pnpm) {
      const install = installWithPnpm(pnpm, state, project(context, scene), '--offline');
      entries.push({ name: PNPM_OFFLINE, command: then(install, ['ls', MODULES]) });
    }
    playRound(times, entries, round);
  }
  yield timesRow('a second workspace, to the first ls', times, { peer: PNPM_OFFLINE, max: MAX_SECOND });
}

/**
 * A machine that has nothing, with a peer that has all packages.
 * @param {Scene} scene
 */
function withPeer({ context }) {
  context.progress('with a peer that has all packages');
  using stack = new DisposableStack();
  const [warm, cold] = ['warm', 'cold'].map((name) => addMember(stack, context, { name }));
  formCluster(warm, [cold]);
  run(ours(warm.home, project(context), 'export', LOCK, MODULES));
  const before = toldTo(OURS);
  const directory = project(context);
  const create = ours(cold.home, directory, 'workspace', 'create', 'app', '--from', LOCK, MODULES);
  stack.defer(() => void run(cold.command('workspace', 'remove', '--discard', 'app')));
  const { seconds } = timed(then(create, WORK["require('webpack')"]));
  const after = toldTo(OURS);
  return valueRow(
    "requests to the registry for require('webpack'), with a peer that has all",
    { value: after.requests - before.requests, unit: 'requests' },
    { max: 0, note: `in ${seconds.toFixed(2)} s` },
  );
}
