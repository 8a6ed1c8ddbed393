import type { Caller } from './caller.js';
import { type Action, ExitCode, type Options, type Output } from './command.js';
import { COMMANDS } from './commands.js';
import { createContext } from './context.js';
import { fail } from './errors.js';
import { hasFlag } from './has-flag.js';
import type { Homes } from './homes.js';
import { buildProgram } from './program.js';
import { type Terminal, writeOut } from './terminal.js';

export interface ExecuteOptions {
  caller: Caller;
  homes: Homes;
  /** Decides when and where an action runs: `run` runs it here and now. Returns the exit code. */
  perform(action: Action, run: () => Promise<number>): Promise<number>;
}

/** Runs one command line and returns its exit code. Never throws. */
export async function execute(args: readonly string[], options: ExecuteOptions): Promise<number> {
  const { caller, homes, perform } = options;
  const { terminal } = caller;
  const json = hasFlag(args, '--json');
  const offline = hasFlag(args, '--offline');
  let exitCode: number = ExitCode.done;

  async function run(action: Action, values: string[], given: Options): Promise<number> {
    const context = createContext({ json, offline, caller, homes });
    let output: Output;
    try {
      output = await action.run(context, values, given);
      // A document says that all is well; lines are read while they come.
      if (json && !output.news) await context.close();
      terminal.outcome(output.exitCode ?? ExitCode.done);
      await print(terminal, json, output);
    } catch (error) {
      // What closing has to say matters less than why the command failed.
      await context.close().catch(() => undefined);
      throw error;
    }
    await context.close();
    return output.exitCode ?? ExitCode.done;
  }

  try {
    const program = await buildProgram(COMMANDS, {
      args,
      write: (text) => terminal.write(text),
      async execute(action, values, given) {
        exitCode = await perform(action, () => run(action, values, given));
      },
    });
    await program.parse();
    return exitCode;
  } catch (error) {
    return fail(error, caller, json);
  }
}

async function print(terminal: Terminal, json: boolean, { data, text, news }: Output): Promise<void> {
  if (news) terminal.endless();
  for await (const item of news ?? []) {
    await writeOut(terminal, json ? `${JSON.stringify(item.data)}\n` : item.text);
  }
  if (news) return;
  if (json) await writeOut(terminal, `${JSON.stringify(data)}\n`);
  else if (text !== undefined) await writeOut(terminal, text);
}
