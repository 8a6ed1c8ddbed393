// What a fresh clone needs before anything else can run: dependencies, Node 24 and a build.
// This file runs on whatever Node the system has (20 or newer), so: built-ins only.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url)).replace(/[\\/]$/, '');

const BIN = join(ROOT, 'node_modules', '.bin');

/**
 * Installs when needed and builds.
 * @returns {{ node: string, env: NodeJS.ProcessEnv }} the Node to run everything else with, and the environment for it
 */
export function prepare() {
  const stale = staleReason(ROOT);
  if (stale) {
    console.log(`> npm ci (${stale})`);
    // With the system's Node, not with the one inside the node_modules that npm is about to delete.
    // Its warnings are about the system's Node being older than what the tools want: they get their own.
    run(
      'npm',
      ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'],
      systemEnv(),
    );
    const still = staleReason(ROOT);
    if (still)
      fail(`npm ci has finished, but ${still}. Is ignore-scripts or omit set in your npm configuration?`);
  }
  const env = projectEnv();
  npmRun('build', env);
  return { node: join(BIN, 'node'), env };
}

/**
 * Why node_modules does not match package-lock.json, or undefined when it does.
 * @param {string} root
 * @returns {string | undefined}
 */
function staleReason(root) {
  /** @type {Record<string, LockEntry>} */
  let wanted;
  /** @type {Record<string, LockEntry>} */
  let present;
  wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  try {
    present = JSON.parse(readFileSync(join(root, 'node_modules', '.package-lock.json'), 'utf8')).packages;
    accessSync(join(root, 'node_modules', '.bin', 'node'), constants.X_OK);
  } catch {
    return 'node_modules is missing or incomplete';
  }
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.startsWith('node_modules/') && !path.includes('/node_modules/')) continue;
    const installed = present[path];
    if (installed ? !sameEntry(installed, entry) : !(entry.optional || entry.devOptional)) {
      return `${path} is not as in package-lock.json`;
    }
  }
  for (const path of Object.keys(present)) {
    if (!wanted[path]) return `${path} is not in package-lock.json`;
  }
  return undefined;
}

/**
 * @typedef {{ version?: string, integrity?: string, link?: boolean, optional?: boolean, devOptional?: boolean }} LockEntry
 * @param {LockEntry} a
 * @param {LockEntry} b
 */
function sameEntry(a, b) {
  return a.version === b.version && a.integrity === b.integrity && a.link === b.link;
}

/**
 * Runs a script of package.json and ends this process if it fails.
 * @param {string} name
 * @param {NodeJS.ProcessEnv} env
 */
export function npmRun(name, env) {
  run('npm', ['run', '--silent', name], env);
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 */
function run(command, args, env) {
  const { status, signal, error } = spawnSync(command, args, { cwd: ROOT, env, stdio: 'inherit' });
  if (error) fail(`cannot run ${command}: ${error.message}`);
  if (status !== 0) fail(`${command} ${args.join(' ')} failed (${signal ?? `exit code ${status}`})`);
}

/**
 * @param {string} message
 * @returns {never}
 */
function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

/** The environment in which `node` is the Node 24 of node_modules; without colours in a log file. */
function projectEnv() {
  const plain = process.stdout.isTTY ? {} : { NO_COLOR: '1', FORCE_COLOR: '0' };
  return { ...process.env, ...plain, PATH: [BIN, systemPath()].join(delimiter) };
}

/** The environment in which `node` is the system's, even when npm run started us. */
function systemEnv() {
  return { ...process.env, PATH: systemPath() };
}

function systemPath() {
  const inside = (/** @type {string} */ dir) =>
    `${resolve(dir)}${sep}`.startsWith(`${join(ROOT, 'node_modules')}${sep}`);
  return (process.env.PATH ?? '')
    .split(delimiter)
    .filter((dir) => dir !== '' && !inside(dir))
    .join(delimiter);
}
