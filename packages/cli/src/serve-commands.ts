import { createGate, createTurns, type Host } from '@lazytree/node/daemon';
import type { CommandOutput, CommandRequest, ExecuteCommand } from '@lazytree/node/daemon-client';
import type { Caller } from './caller.js';
import { type Action, RUN_SCRIPTS } from './command.js';
import { COMMANDS } from './commands.js';
import { execute } from './execute.js';
import type { Progress } from './progress.js';
import type { Terminal } from './terminal.js';

/** Bits of a caller's umask that are heeded. Without its owner's, the store could not read its own files. */
const OTHERS = 0o077;

type Task = { run(): Promise<number>; signal: AbortSignal };

/** Carries out, in the daemon, the command lines of its callers. */
export function commandsOf(host: Host): ExecuteCommand {
  const own = process.umask();
  const umasks = createGate<number>({
    enter: (umask) => process.umask(umask),
    leave: () => process.umask(own),
  });
  const collections = createGate<string>();
  const turns = createTurns();

  /** What must not happen at the same time in one process waits here for its turn. */
  function perform({ collection }: Action, { run, signal }: Task): Promise<number> {
    return collection ? collections({ key: collection, run, signal }) : run();
  }

  return (request, output) =>
    execute(request.argv, {
      caller: callerOf(request, output),
      homes: {
        open: async () => host.home,
        close: false,
        host,
        turns,
        // The umask is the whole process's: those who want another wait.
        makeFiles: (run) =>
          request.umask === undefined
            ? run()
            : umasks({ key: request.umask & OTHERS, run, signal: output.signal }),
      },
      async perform(action, run) {
        if (action.where === 'here' || (action.runsScripts && request.argv.includes(RUN_SCRIPTS)))
          throw new Error('this action concerns the daemon, and runs outside of it');
        try {
          return await perform(action, { run, signal: output.signal });
        } catch (error) {
          // Be it of another disk: then to open the store again is for nothing, and costs little.
          if ((error as { code?: unknown }).code === 'NO_SPACE') host.distrust();
          throw error;
        }
      },
    });
}

/** So that they run also when other files have taken the place of their code. */
export async function loadCommands(): Promise<void> {
  for (const load of Object.values(COMMANDS)) await load();
}

function callerOf({ cwd, terminal, env }: CommandRequest, output: CommandOutput): Caller {
  return {
    terminal: remoteTerminal(terminal, output),
    signal: output.signal,
    directory: cwd,
    env,
    debug: Boolean(env.LAZYTREE_DEBUG),
  };
}

const SILENT: Progress = { update: () => undefined, stop: () => undefined };

function remoteTerminal({ stdout, progress }: CommandRequest['terminal'], output: CommandOutput): Terminal {
  let bars = 0;
  return {
    isRead: stdout,
    write: (part) => output.stdout(typeof part === 'string' ? Buffer.from(part) : part),
    writeError: (text) => output.stderr(String(text)),
    async progress(label) {
      if (!progress) return SILENT;
      const bar = bars++;
      output.progress({ bar, label });
      return {
        update: (state) => output.progress({ bar, state }),
        stop: () => output.progress({ bar, stop: true }),
      };
    },
    endless: () => output.endless(),
    outcome: (exitCode) => output.outcome(exitCode),
  };
}
