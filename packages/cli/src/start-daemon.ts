import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { startDaemon } from '@lazytree/node/daemon-client';
import { homeDirectory } from '@lazytree/node/home-directory';

/** Starts the home's daemon unless it runs. One that was started for a command ends when it has nothing to do. */
export function startForCommand() {
  return start('command');
}

/** @param options of `daemon run` */
export function startForUser(options: readonly string[]) {
  return start('user', options);
}

function start(startedFor: 'command' | 'user', options: readonly string[] = []) {
  const here = createRequire(import.meta.url).resolve('lazytree/package.json');
  const bin = join(dirname(here), 'bin', 'lazytree.js');
  return startDaemon({
    home: homeDirectory(),
    command: [process.execPath, bin, 'daemon', 'run', ...options],
    startedFor,
  });
}
