// Running programs, with and without a clock. A program that fails ends the benchmark it is part of: a time is
// worth nothing when the work was not done.
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * @typedef {object} Command
 * @property {string[]} argv
 * @property {string} [cwd]
 * @property {Record<string, string>} [env] added to the environment
 */

/** What was produced is not what it has to be. Nothing that was measured along with it counts. */
export class VerificationError extends Error {
  /** @override */
  name = 'VerificationError';
}

const MAX_OUTPUT = 1 << 30;
const SHOWN_OUTPUT = 600;

/**
 * @param {Command} command
 * @returns {{ seconds: number, stdout: string }}
 * @throws {VerificationError} when it does not end with 0
 */
export function timed({ argv, cwd, env }) {
  const options = {
    cwd,
    env: environment(env),
    encoding: /** @type {const} */ ('utf8'),
    maxBuffer: MAX_OUTPUT,
    stdio: /** @type {import('node:child_process').StdioOptions} */ (['ignore', 'pipe', 'pipe']),
  };
  const start = process.hrtime.bigint();
  const { status, signal, error, stdout, stderr } = spawnSync(argv[0], argv.slice(1), options);
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  if (error || status !== 0) {
    const reason = error?.message ?? signal ?? `exit code ${status}`;
    const said = `${stdout ?? ''}${stderr ?? ''}`.trim().slice(-SHOWN_OUTPUT);
    throw new VerificationError(`${argv.join(' ')}: ${reason}\n${said}`);
  }
  return { seconds, stdout };
}

/**
 * @param {Command} command
 * @returns {string} what it wrote to stdout
 */
export function run(command) {
  return timed(command).stdout;
}

/**
 * Starts what goes on in the background, with nobody listening to what it says.
 * @param {Command} command
 * @returns {number} its process
 */
export function start({ argv, cwd, env }) {
  const child = spawn(argv[0], argv.slice(1), { cwd, env: environment(env), stdio: 'ignore' });
  child.unref();
  if (child.pid === undefined) throw new VerificationError(`${argv[0]} cannot be started`);
  return child.pid;
}

/**
 * A command line for the shell, which sees `args` as $1, $2 and so on.
 * @param {string} script
 * @param {string[]} args
 * @returns {Command}
 */
export function shell(script, ...args) {
  return { argv: ['sh', '-c', script, 'sh', ...args] };
}

/** @param {string} name */
export function isInstalled(name) {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * The user's own settings of git and what npm tells its scripts must not change what is measured.
 * @param {Record<string, string>} [added]
 */
function environment(added) {
  const kept = Object.entries(process.env).filter(([name]) => !/^(npm_|GIT_|INIT_CWD$)/i.test(name));
  return {
    ...Object.fromEntries(kept),
    LC_ALL: 'C.UTF-8',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_CONFIG_NOSYSTEM: '1',
    ...added,
  };
}
