import { join } from 'node:path';
import { inspect } from 'node:util';
import { type PosixSuite, READING, REFUSING, WRITING } from './posix-suite.ts';

/**
 * `posix-run.ts SUITE DIRECTORY`: runs each function of a suite in the directory of its name below `DIRECTORY`, and
 * prints as JSON what each ended with: null, or an error.
 */
const SUITES: Record<string, PosixSuite> = { READING, REFUSING, WRITING };
const [, , suite, directory] = process.argv;

const results: Record<string, string | null> = {};
for (const [name, check] of Object.entries(SUITES[suite])) {
  try {
    await check(suite === 'WRITING' ? join(directory, name) : directory);
    results[name] = null;
  } catch (error) {
    results[name] = inspect(error);
  }
}
console.log(JSON.stringify(results));
