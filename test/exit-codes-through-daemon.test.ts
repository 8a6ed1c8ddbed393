import { expect, test } from 'vitest';
import { commandsServed, runThroughDaemons } from './helpers.ts';

// The same tests, with the same results.
runThroughDaemons();
await import('./exit-codes.test.ts');

test('these commands have gone through a daemon', async () => {
  expect(await commandsServed()).toBeGreaterThan(150);
});
