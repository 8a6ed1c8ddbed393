import { expect, test } from 'vitest';
import { createDemand } from '../../src/fetch/demand.js';

test('what nobody waits for stands back while somebody waits, but not for ever', async () => {
  const demand = createDemand();
  await demand.idle();
  await demand.standBack();
  const answer = Promise.withResolvers<void>();
  const waiting = demand.during(() => answer.promise);
  let idle = false;
  const quiet = demand.idle().then(() => {
    idle = true;
  });
  // A reader whose answer does not come holds back nothing for good.
  await demand.standBack();
  expect(idle).toBe(false);
  answer.resolve();
  await Promise.all([waiting, quiet]);
  expect(idle).toBe(true);
});
