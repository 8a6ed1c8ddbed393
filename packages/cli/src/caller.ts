import type { Terminal } from './terminal.js';

/** Whoever gave a command line, to this process or to one that asks this one. */
export interface Caller {
  terminal: Terminal;
  signal: AbortSignal;
  /** What relative paths begin at; undefined when it is gone. */
  directory: string | undefined;
  /** Its variables, as far as commands heed them. Some are secret. */
  env: Readonly<Record<string, string | undefined>>;
  /** Whether the stack of an error is wanted. */
  debug: boolean;
}
