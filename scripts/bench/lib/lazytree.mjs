// The command as a user runs it: a process of its own for each call, started by way of its bin script.
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, VerificationError } from './command.mjs';

const BIN = fileURLToPath(new URL('../../../packages/cli/bin/lazytree.js', import.meta.url));
const BUNDLE = fileURLToPath(new URL('../../../packages/cli/dist/bundle/main.js', import.meta.url));
const REPORT_RSS = new URL('./report-rss.mjs', import.meta.url).href;

/** Another lazytree to measure in place of this repository's, such as an installed one. */
const script = process.env.LAZYTREE_BENCH_COMMAND ? resolve(process.env.LAZYTREE_BENCH_COMMAND) : BIN;

/** @returns {string | undefined} why nothing can be measured */
export function whyNotReady() {
  if (!existsSync(script)) return `there is no ${script}`;
  if (script === BIN && !existsSync(BUNDLE)) return 'lazytree is not built: run npm run build';
  return undefined;
}

/**
 * @param {string} home
 * @param {string[]} args
 * @returns {import('./command.mjs').Command}
 */
export function lazytree(home, ...args) {
  return { argv: [process.execPath, script, ...args], env: { LAZYTREE_HOME: home } };
}

/**
 * `command` writing the most memory it ever held, in bytes, to `file` when it ends.
 * @param {import('./command.mjs').Command} command a call of {@link lazytree}
 * @param {string} file
 * @returns {import('./command.mjs').Command}
 */
export function reportingRss({ argv: [node, ...args], env }, file) {
  return { argv: [node, '--import', REPORT_RSS, ...args], env: { ...env, LAZYTREE_BENCH_RSS: file } };
}

/**
 * @param {string} home
 * @param {string} directory
 * @returns {string} the root
 */
export function importRoot(home, directory) {
  return rootIn(run(lazytree(home, 'import', directory)));
}

/** @param {string} stdout of a command that prints a root */
export function rootIn(stdout) {
  const root = stdout.trim();
  if (!/^b[a-z2-7]{58}$/.test(root)) throw new VerificationError(`not a root: ${JSON.stringify(root)}`);
  return root;
}

/**
 * @param {string} stdout of a command that prints a root
 * @param {string} expected
 */
export function expectRoot(stdout, expected) {
  const root = rootIn(stdout);
  if (root !== expected) throw new VerificationError(`the root is ${root} and has to be ${expected}`);
}
