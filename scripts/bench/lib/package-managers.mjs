// The current pnpm and npm, in a cache of ours, with all of their own state in directories of ours.
import { existsSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './command.mjs';

export const PNPM = 'pnpm install --frozen-lockfile';
export const NPM_CI = 'npm ci';

/**
 * @typedef {import('./context.mjs').Context} Context
 * @typedef {import('./command.mjs').Command} Command
 *
 * @typedef {object} PackageManager
 * @property {(state: string, registry: string, directory: string, ...args: string[]) => Command} command
 */

/**
 * @param {Context} context
 * @param {'pnpm' | 'npm'} name
 * @returns {PackageManager | undefined} undefined, and told, where it cannot be had
 */
export function packageManager(context, name) {
  const place = join(tmpdir(), 'lazytree-bench', `peer-${name}`);
  const script = { pnpm: 'pnpm/bin/pnpm.mjs', npm: 'npm/bin/npm-cli.js' }[name];
  try {
    mkdirSync(place, { recursive: true });
    run({ argv: ['npm', 'install', '--prefix', place, '--no-audit', '--no-fund', `${name}@latest`] });
  } catch (error) {
    context.progress(`SKIPPED ${name}: ${/** @type {Error} */ (error).message}`);
  }
  const found = [script, script.replace(/mjs$/, 'cjs')]
    .map((file) => join(place, 'node_modules', file))
    .find(existsSync);
  if (found === undefined) return undefined;
  const version = run({ argv: [process.execPath, found, '--version'], cwd: place }).trim();
  context.progress(`${name} is ${version}`);
  return {
    command: (state, registry, directory, ...args) => ({
      argv: [process.execPath, found, ...args],
      cwd: directory,
      env: { ...stateIn(state), npm_config_registry: registry, pnpm_config_registry: registry },
    }),
  };
}

/**
 * Nothing of the user's is read, nor changed.
 * @param {string} state
 * @returns {Record<string, string>}
 */
function stateIn(state) {
  return {
    CI: '1',
    HOME: state,
    XDG_CACHE_HOME: join(state, 'cache'),
    XDG_CONFIG_HOME: join(state, 'config'),
    XDG_DATA_HOME: join(state, 'data'),
    XDG_STATE_HOME: join(state, 'state'),
    PNPM_HOME: join(state, 'pnpm'),
    npm_config_cache: join(state, 'npm'),
    npm_config_store_dir: join(state, 'store'),
    npm_config_update_notifier: 'false',
    npm_config_userconfig: join(state, '.npmrc'),
  };
}
