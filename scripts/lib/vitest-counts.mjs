// A vitest reporter that writes how many tests passed, failed and were skipped to $LAZYTREE_TEST_COUNTS.
import { writeFileSync } from 'node:fs';

/** @import { Reporter } from 'vitest/node' */
/** @typedef {{ passed: number, failed: number, skipped: number }} Counts */

/** @implements {Reporter} */
export default class CountsReporter {
  /** @type {NonNullable<Reporter['onTestRunEnd']>} */
  onTestRunEnd(modules, unhandledErrors) {
    /** @type {Counts} */
    const counts = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      const failedBefore = counts.failed;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        counts[state === 'passed' || state === 'failed' ? state : 'skipped']++;
      }
      // A file that cannot be loaded, or a hook that throws, fails without any failed test.
      if (!module.ok() && counts.failed === failedBefore) counts.failed++;
    }
    counts.failed += unhandledErrors.length;
    const file = process.env.LAZYTREE_TEST_COUNTS;
    if (file) writeFileSync(file, JSON.stringify(counts));
  }
}
