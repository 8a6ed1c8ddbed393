import { type Home, openHome } from '../home.js';
import type { Log } from './log.js';

/** What a daemon owns for as long as it runs. */
export interface Host {
  readonly home: Home;
  readonly log: Log;
  /** Whether there is anything that needs the daemon when no command runs. */
  busy(): boolean;
  close(): Promise<void>;
}

export interface OpenHostOptions {
  /** The home's directory; made if need be. */
  home: string;
  log: Log;
}

/** @throws LazytreeError as openHome */
export async function openHost({ home: directory, log }: OpenHostOptions): Promise<Host> {
  const home = await openHome({ directory, create: true });
  return {
    home,
    log,
    busy: () => false,
    close: () => home.close(),
  };
}
