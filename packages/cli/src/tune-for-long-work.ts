import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** Bytes that V8's young generation may have. It is quick with little, and a long import would let it have 128 MB. */
const YOUNG_BYTES = 24 << 20;
const LOOK_MS = 200;
/** Over before any of this matters, and to load what does it takes some milliseconds. */
const BRIEF = /^(?:ls|stat|log|ref|pin|mounts|status|why)$/;

/**
 * Tells V8 how to go about a command line that this process carries out. To be called when what all command lines need
 * has been loaded: compiled code that was kept under other flags is compiled anew.
 */
export function tuneForLongWork(args: readonly string[]): void {
  if (BRIEF.test(args.find((argument) => !argument.startsWith('-')) ?? 'ls')) return;
  // Optimised code is made by threads that most commands, which last a second, need for other work; what lasts gets it.
  setFlagsFromString('--invocation-count-for-turbofan=20000');
  // Young garbage is little: to wake others up for it takes longer than it does.
  setFlagsFromString('--no-parallel-scavenge');
  // For threads, whose heaps are made after this.
  setFlagsFromString('--max-semi-space-size=8');
  const look = setInterval(() => {
    const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
    if (young && young.space_size < YOUNG_BYTES) return;
    setFlagsFromString('--semi-space-growth-factor=1');
    clearInterval(look);
  }, LOOK_MS).unref();
}
