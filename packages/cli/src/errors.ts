import { inspect } from 'node:util';
import type { Caller } from './caller.js';
import { EXIT_CODES, ExitCode } from './command.js';
import { oneLine } from './one-line.js';

interface Reported {
  code?: unknown;
  message?: unknown;
  hint?: unknown;
  /** What was not there, in full. */
  missing?: unknown;
  exitCode?: unknown;
}

/** By the error's own code, so that the engine need not be loaded to know. */
function exitCodeOf(error: unknown): number {
  const { code, exitCode } = error as Reported;
  if (isCommanderError(error)) return exitCode === 0 ? ExitCode.done : ExitCode.usage;
  if (typeof code === 'string' && code in EXIT_CODES) return EXIT_CODES[code as keyof typeof EXIT_CODES];
  return ExitCode.failed;
}

const HELP = 'see `lazytree --help`';

/**
 * Says what went wrong, and returns the exit code for it. With `json` the document goes to stdout, where one is expected
 * however the command ends, and to stderr, where the line is.
 */
export async function fail(
  error: unknown,
  { terminal, signal, debug }: Caller,
  json: boolean,
): Promise<number> {
  const interrupted = signal.aborted;
  const line = errorLine(interrupted ? { message: 'interrupted', code: 'ABORTED' } : error, json);
  terminal.writeError(line);
  if (debug && !interrupted) terminal.writeError(`${inspect(error)}\n`);
  // Whether anybody reads it says nothing of the command.
  if (json) await terminal.write(line).catch(() => false);
  return interrupted ? ExitCode.interrupted : exitCodeOf(error);
}

/** One line: what went wrong, where, and what to do about it. Nothing for what is no error. */
function errorLine(error: unknown, json: boolean): string {
  const { message, hint, missing, code, exitCode } = error as Reported;
  if (isCommanderError(error) && exitCode === 0) return '';
  if (code === 'commander.help') {
    return errorLine({ code: 'USAGE', message: 'no command given', hint: HELP }, json);
  }
  const text = oneLine(String(message ?? error).replace(/^error: /, ''));
  const advice = typeof hint === 'string' ? oneLine(hint) : undefined;
  if (json) {
    const report = {
      code: isCommanderError(error) ? 'USAGE' : (code ?? 'FAILED'),
      message: text,
      hint: advice,
      missing,
    };
    return `${JSON.stringify({ error: report })}\n`;
  }
  return `lazytree: ${text}${advice ? ` (${advice})` : ''}\n`;
}

function isCommanderError(error: unknown): boolean {
  const { code } = error as Reported;
  return typeof code === 'string' && code.startsWith('commander.');
}
