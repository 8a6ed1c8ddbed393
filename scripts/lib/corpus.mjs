// A real workspace of tens of thousands of files, on every machine.
// This file runs on whatever Node the system has (20 or newer), so: built-ins only.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './prepare.mjs';

/** A React workspace as package.json and package-lock.json, beside the repository where there is one. */
export const CORPUS = join(ROOT, '..', 'shared', 'corpus', 'react');
const INSTALL = ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund'];

export const hasCorpus = () => existsSync(join(CORPUS, 'package-lock.json'));

/**
 * Runs one command; the default only collects what it prints.
 * @callback Run
 * @param {string[]} command
 * @param {{ cwd: string, env: NodeJS.ProcessEnv }} options
 * @returns {boolean} whether it has succeeded
 */

/** @type {Run} */
const silently = ([program, ...args], options) =>
  spawnSync(program, args, { ...options, stdio: 'ignore' }).status === 0;

/**
 * Makes the workspace at `directory`, which is not there yet: the corpus with its packages installed, or, where
 * that cannot be had, a copy of this repository's own node_modules.
 * @param {string} directory
 * @param {{ env?: NodeJS.ProcessEnv, run?: Run }} [options]
 * @returns {{ notice?: string }} why it is the copy
 */
export function makeWorkspace(directory, { env = process.env, run = silently } = {}) {
  let notice = `there is no ${CORPUS}`;
  if (hasCorpus()) {
    mkdirSync(directory);
    for (const name of ['package.json', 'package-lock.json']) {
      copyFileSync(join(CORPUS, name), join(directory, name));
    }
    if (run(INSTALL, { cwd: directory, env: outsideOfNpm(env) })) return {};
    rmSync(directory, { recursive: true, force: true });
    notice = `${INSTALL.join(' ')} has failed`;
  }
  const cwd = join(directory, '..');
  if (!run(['cp', '-a', join(ROOT, 'node_modules'), directory], { cwd, env })) {
    throw new Error(`cannot copy node_modules to ${directory}`);
  }
  return { notice };
}

/**
 * What `npm run` has set for this repository must not lead another npm here.
 * @param {NodeJS.ProcessEnv} env
 */
function outsideOfNpm(env) {
  const ours =
    /^(?:npm_config_(?:local_prefix|workspaces?|include_workspace_root)|npm_(?:package|lifecycle)_.*|INIT_CWD)$/i;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !ours.test(name)));
}
