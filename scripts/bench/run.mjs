// `npm run bench`: measures lazytree beside its peers (docs/benchmarks.md). Prints a Markdown table.
// Exit code 0 also when a threshold is missed, 1 when a result was wrong or a benchmark could not run, 2 for usage.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { createContext } from './lib/context.mjs';
import { whyNotReady } from './lib/lazytree.mjs';
import { machineFacts } from './lib/machine.mjs';
import { formatReport } from './lib/report.mjs';
import { writeDocs } from './lib/write-docs.mjs';

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/row.mjs').Row} Row
 */

/** @type {Record<string, () => Promise<{ benchmark: import('./lib/context.mjs').Benchmark }>>} */
const BENCHMARKS = {
  start: () => import('./start.mjs'),
  import: () => import('./import.mjs'),
  reimport: () => import('./reimport.mjs'),
  export: () => import('./export.mjs'),
  image: () => import('./image.mjs'),
  dedup: () => import('./dedup.mjs'),
  diff: () => import('./diff.mjs'),
  store: () => import('./store.mjs'),
  memory: () => import('./memory.mjs'),
  'mount-start': () => import('./mount-start.mjs'),
  'mount-files': () => import('./mount-files.mjs'),
  'mount-large': () => import('./mount-large.mjs'),
  'mount-memory': () => import('./mount-memory.mjs'),
  'workspace-save': () => import('./workspace-save.mjs'),
  'workspace-tools': () => import('./workspace-tools.mjs'),
  'cluster-copy': () => import('./cluster-copy.mjs'),
  'cluster-edit': () => import('./cluster-edit.mjs'),
  'cluster-large': () => import('./cluster-large.mjs'),
  'cluster-delay': () => import('./cluster-delay.mjs'),
  'cluster-many': () => import('./cluster-many.mjs'),
  'cluster-black-hole': () => import('./cluster-black-hole.mjs'),
  azure: () => import('./azure.mjs'),
  'origins-git': () => import('./origins-git.mjs'),
  'origins-npm': () => import('./origins-npm.mjs'),
  // At the end: it removes trees, after which ext4 is slow.
  'workspace-remove': () => import('./workspace-remove.mjs'),
};

const USAGE = `Usage: npm run bench -- [NAME...] [--rounds N] [--json FILE] [--write-docs]

  NAME          what to measure, default everything: ${Object.keys(BENCHMARKS).join(', ')};
                mount, workspace, cluster and origins are all that begin with that
  --rounds N    rounds of which the median is taken, default 5
  --json FILE   write every single measurement to a file
  --write-docs  put the table into docs/benchmarks.md

Environment: LAZYTREE_BENCH_CORPUS (directory with package.json and package-lock.json, default
../shared/corpus/react), LAZYTREE_BENCH_GB (size of the store benchmark, default 10), LAZYTREE_BENCH_BIG=1
(memory with 10 GB and a million files, mounts of a million files), LAZYTREE_BENCH_COMMAND (another lazytree.js to measure).
`;

process.exitCode = await main();

async function main() {
  const options = readOptions();
  if (typeof options === 'number') return options;
  const obstacle = whyNotReady();
  if (obstacle) {
    process.stderr.write(`bench: ${obstacle}\n`);
    return 1;
  }
  const { names, rounds, json, docs } = options;
  const machine = machineFacts(rounds);
  const context = createContext({ rounds });
  try {
    const rows = await measure(names, context);
    const report = formatReport(machine, rows);
    process.stdout.write(report);
    if (json !== undefined) writeFileSync(json, `${JSON.stringify({ machine, rows }, undefined, 2)}\n`);
    if (docs) writeDocs(report);
    return rows.some(({ failure }) => failure !== undefined) ? 1 : 0;
  } finally {
    // Not before all is measured and told: ext4 creates files slowly for minutes after many were removed.
    context.close();
  }
}

/** @returns {{ names: string[], rounds: number, json: string | undefined, docs: boolean } | number} or an exit code */
function readOptions() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        rounds: { type: 'string', default: '5' },
        json: { type: 'string' },
        'write-docs': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    const unknown = positionals.find((name) => named(name).length === 0);
    if (unknown !== undefined) throw new Error(`there is no benchmark '${unknown}'`);
    const rounds = Number(values.rounds);
    if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number from 1');
    const names = positionals.length > 0 ? positionals.flatMap(named) : Object.keys(BENCHMARKS);
    return { names, rounds, json: values.json, docs: values['write-docs'] };
  } catch (error) {
    process.stderr.write(`bench: ${/** @type {Error} */ (error).message}\n${USAGE}`);
    return 2;
  }
}

/**
 * @param {string} wanted
 * @returns {string[]} the benchmark of that name, or those that begin with it and a dash
 */
function named(wanted) {
  return Object.keys(BENCHMARKS).filter((name) => name === wanted || name.startsWith(`${wanted}-`));
}

/**
 * A benchmark that fails is a row that says so, and the others go on.
 * @param {string[]} names
 * @param {ReturnType<typeof createContext>} context
 */
async function measure(names, context) {
  /** @type {Row[]} */
  const rows = [];
  for (const name of names) {
    try {
      const { benchmark } = await BENCHMARKS[name]();
      for await (const row of benchmark(context)) rows.push(row);
    } catch (error) {
      const { message } = /** @type {Error} */ (error);
      context.progress(`${name} FAILED: ${message}`);
      rows.push({ item: name, peers: [], failure: message });
    }
  }
  return rows;
}
