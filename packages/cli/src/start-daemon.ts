import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import {
  type DaemonAhead,
  ensureDaemon,
  prepareDaemon,
  type StartDaemonOptions,
  startDaemon,
} from '@lazytree/node/daemon-client';
import { homeDirectory } from '@lazytree/node/home-directory';

/**
 * Starts the home's daemon unless it runs. One that was started for a command ends when it has nothing to do.
 *
 * @param ahead see {@link prepareForCommand}
 */
export function startForCommand(ahead?: DaemonAhead): Promise<void> {
  return ensureDaemon(optionsFor('command'), ahead);
}

/** Begins to start it, for a command line that will need it if nothing is wrong with it. */
export function prepareForCommand(): DaemonAhead {
  return prepareDaemon(optionsFor('command'));
}

/** @param options of `daemon run` */
export function startForUser(options: readonly string[]) {
  return startDaemon(optionsFor('user', options));
}

function optionsFor(
  startedFor: StartDaemonOptions['startedFor'],
  options: readonly string[] = [],
): StartDaemonOptions {
  const here = createRequire(import.meta.url).resolve('lazytree/package.json');
  const bin = join(dirname(here), 'bin', 'lazytree.js');
  return {
    home: homeDirectory(),
    command: [process.execPath, bin, 'daemon', 'run', ...options],
    startedFor,
  };
}
