import type { DaemonAhead } from '@lazytree/node/daemon-client';
import type { Caller } from './caller.js';
import { ExitCode } from './command.js';
import { fail } from './errors.js';
import { exactArguments } from './exact-arguments.js';
import { exactDirectory } from './exact-directory.js';
import { hasFlag } from './has-flag.js';
import { askRunningDaemon, isForDaemon, performAnywhere, startAhead } from './route.js';
import { ownTerminal } from './terminal.js';
import { VERSION } from './version.js';

/** Runs one command line and returns its exit code. Never throws. */
export async function run(argv: string[]): Promise<number> {
  const terminal = ownTerminal();
  if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
    try {
      await terminal.write(`${VERSION}\n`);
      return ExitCode.done;
    } catch (error) {
      terminal.writeError(`lazytree: ${(error as Error).message}\n`);
      return ExitCode.failed;
    }
  }
  const args = await exactArguments(argv);
  const interrupt = new AbortController();
  const stop = () => {
    if (interrupt.signal.aborted) process.exit(ExitCode.interrupted);
    interrupt.abort();
  };
  listen();
  const caller: Caller = {
    terminal,
    signal: interrupt.signal,
    directory: await exactDirectory(),
    env: process.env,
    debug: Boolean(process.env.LAZYTREE_DEBUG),
  };
  let daemon: DaemonAhead | undefined;
  try {
    if (isForDaemon(args)) {
      const answer = await askRunningDaemon(args, caller);
      if (answer !== undefined) return answer;
      daemon = await startAhead(args);
    }
    const { runHere } = await import('./run-here.js');
    return await runHere(args, {
      caller,
      lasts: daemon === undefined,
      perform(action, run) {
        if (action.handlesSignals) ignore();
        return performAnywhere(action, { args, caller, ahead: daemon, run });
      },
    });
  } catch (error) {
    return await fail(error, caller, hasFlag(args, '--json'));
  } finally {
    daemon?.stop();
    ignore();
  }

  function listen(): void {
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
  }

  function ignore(): void {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}
