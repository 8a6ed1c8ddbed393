// Saving a workspace in which one file has changed.
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { OURS } from './lib/alternate.mjs';
import { run, timed, VerificationError } from './lib/command.mjs';
import { startDaemon } from './lib/file-systems.mjs';
import { expectRoot, importRoot, lazytree, rootIn } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';
import { middleFile } from './lib/trees.mjs';

const SAVES = 20;
const MAX_MS = 100;
const NAME = 'changing';

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  context.progress('workspace save, one file changed');
  const { path } = context.corpus();
  const home = context.fresh('home');
  const root = importRoot(home, path);
  const directory = context.fresh('mnt');
  using stack = new DisposableStack();
  startDaemon(stack, home);
  run(lazytree(home, 'workspace', 'create', NAME, directory, '--from', root));
  stack.defer(() => void run(lazytree(home, 'workspace', 'remove', '--discard', NAME)));
  const changing = join(directory, middleFile(path));
  const saved = [root];
  /** @type {number[]} */
  const times = [];
  for (let i = 0; i < SAVES; i++) {
    appendFileSync(changing, `${i}\n`);
    const { seconds, stdout } = timed(lazytree(home, 'workspace', 'save', NAME));
    saved.push(rootIn(stdout));
    times.push(seconds);
  }
  if (new Set(saved).size !== saved.length) throw new VerificationError('two saves gave one root');
  const other = join(context.fresh('home'), 'home');
  expectRoot(run(lazytree(other, 'import', '--no-cache', directory)), saved[SAVES]);
  yield valueRow('workspace save, one file changed', quantity(median(times), 'ms'), {
    max: MAX_MS,
    samples: { [OURS]: times },
  });
}
