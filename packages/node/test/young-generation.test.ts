import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

const MODULE = new URL('../dist/daemon/young-generation.js', import.meta.url).href;

/** Buffers that come and go as those of a transfer do, with what belongs to them on the heap. */
const TRANSFER = `
  import { PerformanceObserver, constants } from 'node:perf_hooks';
  let major = 0;
  const count = (list) => {
    for (const { detail } of list.getEntries()) major += detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR ? 1 : 0;
  };
  const observer = new PerformanceObserver(count);
  observer.observe({ entryTypes: ['gc'] });
  // What stays makes the young generation grow, where it may.
  globalThis.stays = Array.from({ length: 500_000 }, (_, at) => ({ at }));
  for (let i = 0; i < 8000; i++) {
    const buffer = Buffer.allocUnsafeSlow(64 << 10);
    globalThis.last = { buffer, about: Array.from({ length: 100 }, (_, at) => ({ at })) };
    if (i % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  process.stdout.write(String(major));
`;

function majorCollections(before: string): number {
  const argv = ['--input-type=module', '--eval', `${before}\n${TRANSFER}`];
  return Number(execFileSync(process.execPath, argv, { encoding: 'utf8' }));
}

test('a transfer makes few collections of the whole heap', () => {
  const usual = majorCollections('');
  const small = majorCollections(
    `import { keepYoungGenerationSmall } from '${MODULE}'; keepYoungGenerationSmall();`,
  );
  expect(usual).toBeGreaterThan(0);
  expect(small).toBeLessThan(usual / 2);
});
