import { EXIT_CODES, ExitCode } from './command.js';

interface Reported {
  code?: unknown;
  message?: unknown;
  hint?: unknown;
  exitCode?: unknown;
}

/** By the error's own code, so that the engine need not be loaded to know. */
export function exitCodeOf(error: unknown): number {
  const { code, exitCode } = error as Reported;
  if (isCommanderError(error)) return exitCode === 0 ? ExitCode.done : ExitCode.usage;
  if (typeof code === 'string' && code in EXIT_CODES) return EXIT_CODES[code as keyof typeof EXIT_CODES];
  return ExitCode.failed;
}

const HELP = 'see `lazytree --help`';

/** One line on stderr: what went wrong, where, and what to do about it. */
export function reportError(error: unknown, json: boolean): void {
  const { message, hint, code, exitCode } = error as Reported;
  if (isCommanderError(error) && exitCode === 0) return;
  if (code === 'commander.help') {
    reportError({ code: 'USAGE', message: 'no command given', hint: HELP }, json);
    return;
  }
  const text = oneLine(String(message ?? error).replace(/^error: /, ''));
  const advice = typeof hint === 'string' ? oneLine(hint) : undefined;
  if (json) {
    const report = {
      code: isCommanderError(error) ? 'USAGE' : (code ?? 'FAILED'),
      message: text,
      hint: advice,
    };
    process.stderr.write(`${JSON.stringify({ error: report })}\n`);
  } else process.stderr.write(`lazytree: ${text}${advice ? ` (${advice})` : ''}\n`);
  if (process.env.LAZYTREE_DEBUG) console.error(error);
}

function isCommanderError(error: unknown): boolean {
  const { code } = error as Reported;
  return typeof code === 'string' && code.startsWith('commander.');
}

/** Names come from anywhere: what would break the line or drive the terminal is escaped. */
export function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}]/gu, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
