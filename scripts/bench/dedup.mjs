// What a second workspace takes in the store when it has the same node_modules.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, VerificationError } from './lib/command.mjs';
import { copyCorpus } from './lib/corpus.mjs';
import { importRoot, lazytree } from './lib/lazytree.mjs';
import { quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';
import { contentBytes, verifySameTree } from './lib/trees.mjs';

const SOURCES = 30;
const LINES = 100;
const MAX_PERCENT = 1;

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  context.progress('second workspace');
  const corpus = context.corpus();
  const home = context.fresh('home');
  const first = importRoot(home, corpus.path);
  const before = storeBytes(home);
  const tree = copyCorpus(corpus, join(context.fresh('copy'), 'tree'));
  const written = writeSources(tree);
  const second = importRoot(home, tree);
  const after = storeBytes(home);
  if (first === second) throw new VerificationError('two different workspaces have one root');
  run(lazytree(home, 'verify'));
  const copy = join(context.fresh('export'), 'tree');
  run(lazytree(home, 'export', second, copy));
  verifySameTree(tree, copy);
  yield valueRow(
    'second workspace, same node_modules: growth of the store',
    quantity((100 * (after - before)) / before, '%'),
    {
      max: MAX_PERCENT,
      samples: { before, after, written },
      note: `the second workspace has ${SOURCES} source files of its own, ${written} bytes`,
    },
  );
}

/**
 * Segments and index; caches beside them can be made again.
 * @param {string} home
 */
function storeBytes(home) {
  return ['segments', 'index'].reduce((sum, name) => {
    const directory = join(home, 'store', name);
    if (!existsSync(directory)) throw new VerificationError(`there is no ${directory}: what is a store now?`);
    return sum + contentBytes(directory);
  }, 0);
}

/**
 * @param {string} tree
 * @returns {number} bytes
 */
function writeSources(tree) {
  const directory = join(tree, 'src');
  mkdirSync(directory, { recursive: true });
  let bytes = 0;
  for (let i = 0; i < SOURCES; i++) {
    const line = (/** @type {number} */ n) => `export const value${i}_${n} = () => ${i * LINES + n};\n`;
    const text = Array.from({ length: LINES }, (_, n) => line(n)).join('');
    writeFileSync(join(directory, `second-${i}.ts`), text);
    bytes += text.length;
  }
  return bytes;
}
