import { setFlagsFromString } from 'node:v8';
import { run } from './run.js';

// V8 lets the young generation grow with what it allocates, to more than a hundred megabytes in a long import; small
// ones cost no time here. The first flag is for threads, whose heaps are made after it.
setFlagsFromString('--max-semi-space-size=8');
setFlagsFromString('--semi-space-growth-factor=1');

process.exitCode = await run(process.argv.slice(2));
