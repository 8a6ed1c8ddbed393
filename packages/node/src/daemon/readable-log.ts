import type { LogDestination } from './log.js';

/**
 * Makes of each line of JSON one that people read (pino-pretty's), with all that it says. What does that is loaded here:
 * hardly any daemon needs it.
 */
export async function readableLog(
  destination: LogDestination,
  { colour }: { colour: boolean },
): Promise<LogDestination> {
  const { default: pretty } = await import('pino-pretty');
  const format = pretty.prettyFactory({
    colorize: colour,
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    singleLine: true,
    ignore: 'pid',
  });
  return { write: (line) => destination.write(format(line)) };
}
