import { credentialEnv, originEnv, type ProgressEvent, runThroughDaemon } from '@lazytree/node/daemon-client';
import { homeDirectory } from '@lazytree/node/home-directory';
import type { Caller } from './caller.js';
import type { Progress } from './progress.js';
import { VERSION } from './version.js';

/** Has the home's daemon run a command line; undefined when none runs, and then nothing has been done. */
export function throughDaemon(args: readonly string[], caller: Caller): Promise<number | undefined> {
  const { terminal, signal } = caller;
  const bars = new Map<number, Progress>();
  const cwd = caller.directory;
  return runThroughDaemon(
    homeDirectory(),
    {
      argv: [...args],
      ...(cwd === undefined ? {} : { cwd }),
      umask: process.umask(),
      terminal: { stdout: terminal.isRead, progress: process.stderr.isTTY === true },
      env: { ...originEnv(process.env), ...lazytreeVariables(), ...credentialEnv(process.env) },
    },
    {
      version: VERSION,
      signal,
      sink: {
        stdout: (bytes) => terminal.write(bytes),
        stderr: (text) => terminal.writeError(text),
        progress: showProgress,
      },
    },
  );

  async function showProgress(event: ProgressEvent): Promise<void> {
    if ('label' in event) bars.set(event.bar, await terminal.progress(event.label));
    else if ('state' in event) bars.get(event.bar)?.update(event.state);
    else bars.get(event.bar)?.stop();
  }
}

function lazytreeVariables(): Record<string, string> {
  const found = Object.entries(process.env).filter(([name]) => /^LAZYTREE_[A-Z0-9_]+$/.test(name));
  return Object.fromEntries(found as [string, string][]);
}
