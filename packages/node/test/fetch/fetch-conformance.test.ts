import { temporaryStore } from '../../../core/test/helpers.ts';
import { sourceConformance } from '../../../core/test/store-conformance.ts';
import { createFetchChain } from '../../dist/fetch/fetch-chain.js';
import { testProvider } from './test-provider.ts';

sourceConformance('a fetch chain over what is here', async (blocks) => {
  const store = await temporaryStore();
  for (const block of blocks) await store.put(block);
  return createFetchChain(store);
});

sourceConformance('a fetch chain that has brought it', async (blocks) => {
  const seed = await temporaryStore();
  for (const block of blocks) await seed.put(block);
  await seed.flush();
  const chain = createFetchChain(await temporaryStore());
  chain.join(testProvider(seed));
  await chain.bring([blocks.map(({ link }) => ({ link }))], { signal: new AbortController().signal });
  return chain;
});
