import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** Bytes that V8's young generation may have. It is quick with little, and a long import would let it have 128 MB. */
const YOUNG_BYTES = 24 << 20;
const LOOK_MS = 200;

// For threads, whose heaps are made after this.
setFlagsFromString('--max-semi-space-size=8');
const look = setInterval(() => {
  const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
  if (young && young.space_size < YOUNG_BYTES) return;
  setFlagsFromString('--semi-space-growth-factor=1');
  clearInterval(look);
}, LOOK_MS).unref();

const args = process.argv.slice(2);
if (args.includes('import') || args.includes('export')) (await import('./survey-ahead.js')).surveyAhead(args);
const { run } = await import('./run.js');
process.exitCode = await run(args);
