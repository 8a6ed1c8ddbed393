// `npm test`: everything, from a fresh clone on. Arguments go to vitest (npm test -- -t name).
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { npmRun, prepare, ROOT } from './lib/prepare.mjs';

let counts = { passed: 0, failed: 0, skipped: 0 };
process.on('exit', (code) => {
  // Also when installing, building or checking has failed and no test was reached: that is one failure.
  const failed = code !== 0 && counts.failed === 0 ? 1 : counts.failed;
  console.log(`${counts.passed} passed, ${failed} failed, ${counts.skipped} skipped`);
});

const { node, env } = prepare();
npmRun('check', env);

const temporary = mkdtempSync(join(tmpdir(), 'lazytree-test-'));
try {
  const countsFile = join(temporary, 'counts.json');
  const vitest = spawnSync(
    node,
    [
      join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      '--reporter=default',
      `--reporter=${join(ROOT, 'scripts', 'lib', 'vitest-counts.mjs')}`,
      ...process.argv.slice(2),
    ],
    { cwd: ROOT, env: { ...env, LAZYTREE_TEST_COUNTS: countsFile }, stdio: 'inherit' },
  );
  counts = readCounts(countsFile);
  const ok = vitest.status === 0 && counts.failed === 0 && counts.passed > 0;
  if (!ok && counts.failed === 0) {
    const reason = vitest.signal ?? vitest.error?.message ?? `exit code ${vitest.status}`;
    console.log(`error: ${counts.passed === 0 ? 'no test has passed; ' : ''}vitest: ${reason}`);
  }
  process.exitCode = ok ? 0 : 1;
} finally {
  rmSync(temporary, { recursive: true, force: true });
}

/**
 * @param {string} file
 * @returns {import('./lib/vitest-counts.mjs').Counts}
 */
function readCounts(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return counts;
  }
}
