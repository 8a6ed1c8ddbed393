import { type Action, type Context, ExitCode, type Output } from './command.js';
import { COMMANDS } from './commands.js';
import { createContext } from './context.js';
import { exitCodeOf, reportError } from './errors.js';
import { exactArguments } from './exact-arguments.js';
import { writeOut } from './output.js';
import { buildProgram } from './program.js';
import { VERSION } from './version.js';

/** Runs one command line and returns its exit code. Never throws. */
export async function run(argv: string[]): Promise<number> {
  if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
    await writeOut(`${VERSION}\n`);
    return ExitCode.done;
  }
  const args = await exactArguments(argv);
  const json = args.includes('--json');
  const interrupt = new AbortController();
  const stop = () => {
    if (interrupt.signal.aborted) process.exit(ExitCode.interrupted);
    interrupt.abort();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);

  const execute = async (action: Action, values: string[], options: Parameters<Action['run']>[2]) => {
    const context = createContext({ json, signal: interrupt.signal });
    let output: Output;
    try {
      output = await action.run(context, values, options);
      await print(context, output);
    } catch (error) {
      // What closing has to say matters less than why the command failed.
      await context.close().catch(() => undefined);
      throw error;
    }
    await context.close();
    exitCode = output.exitCode ?? ExitCode.done;
  };

  let exitCode: number = ExitCode.done;
  try {
    const program = await buildProgram(COMMANDS, args, execute);
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (interrupt.signal.aborted) {
      reportError({ message: 'interrupted', code: 'ABORTED' }, json);
      return ExitCode.interrupted;
    }
    reportError(error, json);
    return exitCodeOf(error);
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

async function print({ json }: Context, { data, text }: Output): Promise<void> {
  if (json) await writeOut(`${JSON.stringify(data)}\n`);
  else if (text !== undefined) await writeOut(text);
}
