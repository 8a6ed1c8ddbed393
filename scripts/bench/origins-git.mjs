// A commit of a repository on a web server: `git:URL`, and `git clone --depth 1`. Then the next commit.
import { appendFileSync, copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OURS, playRound } from './lib/alternate.mjs';
import { run, shell, start, VerificationError } from './lib/command.mjs';
import { lazytree, rootIn } from './lib/lazytree.mjs';
import { timesRow } from './lib/row.mjs';
import { listTree, verifySameTree } from './lib/trees.mjs';

const FILES = 10_000;
const MAX_RATIO = 1.1;
const CLONE = 'git clone --depth 1';
const PULL = 'git pull --depth 1';
const BACKEND = fileURLToPath(new URL('./lib/git-backend-process.mjs', import.meta.url));
const PORT = 20_000 + (process.pid % 10_000);
const IDENTITY = ['-c', 'user.name=bench', '-c', 'user.email=bench@example.org', '-c', 'gc.auto=0'];

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Entry} Entry
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  context.progress(`making a repository of ${FILES} files`);
  const served = context.fresh('repositories');
  const work = makeRepository(context, join(served, 'r.git'));
  using stack = new DisposableStack();
  const url = startServer(stack, served);
  /** @type {import('./lib/alternate.mjs').Times} */
  const cold = new Map();
  /** @type {import('./lib/alternate.mjs').Times} */
  const next = new Map();
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`git: and ${CLONE}, round ${round + 1}`);
    const place = { url, home: context.fresh('home'), clone: join(context.fresh('clone'), 'tree') };
    playRound(cold, entries(context, place, CLONE), round);
    change(work, round);
    playRound(next, entries(context, place, PULL), round);
  }
  yield timesRow(`git: of ${FILES / 1000}K files by http`, cold, { peer: CLONE, max: MAX_RATIO });
  yield timesRow('git: of the next commit, one file changed', next, { peer: PULL });
}

/**
 * @param {Context} context
 * @param {{ url: string, home: string, clone: string }} place
 * @param {string} peer
 * @returns {Entry[]}
 */
function entries(context, { url, home, clone }, peer) {
  const reference = `git:${url}`;
  const clones = ['git', 'clone', '--quiet', '--depth', '1', url, clone];
  const pulls = shell(
    'cd "$1" && git fetch --quiet --depth 1 && git reset --quiet --hard origin/main',
    clone,
  );
  return [
    {
      name: OURS,
      command: lazytree(home, 'import', reference),
      verify(stdout) {
        const copy = join(context.fresh('export'), 'tree');
        run(lazytree(home, 'export', rootIn(stdout), copy));
        const expected = join(context.fresh('checkout'), 'tree');
        run({ argv: ['git', 'clone', '--quiet', '--depth', '1', url, expected] });
        rmSync(join(expected, '.git'), { recursive: true });
        verifySameTree(expected, copy);
      },
    },
    { name: peer, command: peer === CLONE ? { argv: clones } : pulls },
  ];
}

/**
 * Files of the corpus, as they are: code, with what is beside it.
 * @param {Context} context
 * @param {string} bare
 * @returns {string} a working tree that pushes to it
 */
function makeRepository(context, bare) {
  const { path } = context.corpus();
  const work = join(context.fresh('work'), 'tree');
  const files = listTree(path).filter(
    // What git would do with the content is another matter.
    ({ path: name, kind }) => /^(file|executable)$/.test(kind) && !/(^|\/)\.git/.test(name),
  );
  for (const { path: name } of files.slice(0, FILES)) {
    mkdirSync(dirname(join(work, name)), { recursive: true });
    copyFileSync(join(path, name), join(work, name));
  }
  run({ argv: ['git', 'init', '--quiet', '--bare', '--initial-branch=main', bare] });
  run({ argv: ['git', 'init', '--quiet', '--initial-branch=main', work] });
  run({ argv: ['git', '-C', work, 'remote', 'add', 'origin', bare] });
  commit(work, 'first');
  run({ argv: ['git', '-C', bare, 'repack', '-adq'] });
  return work;
}

/**
 * @param {string} work
 * @param {string} message
 */
function commit(work, message) {
  run({ argv: ['git', '-C', work, ...IDENTITY, 'add', '--force', '--all'] });
  run({ argv: ['git', '-C', work, ...IDENTITY, 'commit', '--quiet', '--message', message] });
  run({ argv: ['git', '-C', work, 'push', '--quiet', 'origin', 'main'] });
}

/**
 * @param {string} work
 * @param {number} round
 */
function change(work, round) {
  const { path } = listTree(work).filter(
    ({ path: name, kind }) => kind === 'file' && !name.startsWith('.git/'),
  )[FILES >> 1];
  appendFileSync(join(work, path), `\n// ${round}\n`);
  commit(work, `round ${round}`);
}

/**
 * @param {DisposableStack} stack
 * @param {string} root
 * @returns {string} the URL of the repository
 */
function startServer(stack, root) {
  const pid = start({ argv: [process.execPath, BACKEND, root, String(PORT)] });
  stack.defer(() => void process.kill(pid));
  const url = `http://127.0.0.1:${PORT}/r.git`;
  for (let attempt = 0; attempt < 50; attempt++) {
    try {
      run({ argv: ['git', 'ls-remote', '--quiet', url] });
      return url;
    } catch {
      run({ argv: ['sleep', '0.1'] });
    }
  }
  throw new VerificationError(`nothing answers at ${url}`);
}
