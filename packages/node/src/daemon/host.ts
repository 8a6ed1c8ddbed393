import { type Home, openHome } from '../home.js';
import type { Log } from './log.js';

/** What a daemon owns for as long as it runs. */
export interface Host {
  /** To be asked for anew by every command: see `refresh`. */
  readonly home: Home;
  readonly log: Log;
  /** Whether there is anything that needs the daemon when no command runs. */
  busy(): boolean;
  /** Says that the store could not write: what it has not written yet, and LevelDB, are stuck until it is opened again. */
  distrust(): void;
  /**
   * Opens the home again when it is distrusted. To be called when no command runs; does nothing while something else
   * uses the home.
   */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

export interface OpenHostOptions {
  /** The home's directory; made if need be. */
  home: string;
  log: Log;
}

/** @throws LazytreeError as openHome */
export async function openHost({ home: directory, log }: OpenHostOptions): Promise<Host> {
  let home = await openHome({ directory, create: true });
  let distrusted = false;
  const busy = () => false;
  return {
    get home() {
      return home;
    },
    log,
    busy,
    distrust() {
      distrusted = true;
    },
    async refresh() {
      if (!distrusted || busy()) return;
      // What could not be written is given up with it, and its space given back.
      await home.close().catch((err) => log.warn({ err }, 'not everything could be written'));
      home = await openHome({ directory, create: false });
      distrusted = false;
      log.warn('the store was opened again after it could not write');
    },
    close: () => home.close(),
  };
}
