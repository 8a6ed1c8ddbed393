import { LazytreeError } from '@lazytree/core';
import type { Terminal } from './terminal.js';

export interface AskOptions {
  signal: AbortSignal;
  /** What relative paths begin at. */
  directory?: string;
  /** Gets the lines that are no error. Default: nobody. */
  writeError?: (text: string) => void;
}

/** What a command says with `--json` when the daemon carries it out, which is started when none runs. */
export async function askForJson(
  args: readonly string[],
  { signal, directory = '/', writeError = () => undefined }: AskOptions,
): Promise<unknown> {
  const [{ startForCommand }, { throughDaemon }] = await Promise.all([
    import('./start-daemon.js'),
    import('./through-daemon.js'),
  ]);
  const answer: Buffer[] = [];
  /** Lines; the last one is the error, if there is one. */
  const complaint: string[] = [];
  const terminal: Terminal = {
    isRead: false,
    async write(part) {
      answer.push(Buffer.from(part as string));
      return true;
    },
    writeError: (text) =>
      void complaint.push(
        ...Buffer.from(text as string)
          .toString()
          .split(/(?<=\n)/),
      ),
    progress: async () => ({ update: () => undefined, stop: () => undefined }),
    endless: () => undefined,
    outcome: () => undefined,
  };
  const caller = { terminal, signal, directory, env: process.env, debug: false };
  let exitCode: number | undefined;
  while (exitCode === undefined) {
    exitCode = await throughDaemon(['--json', ...args], caller);
    if (exitCode === undefined) await startForCommand();
  }
  const said = exitCode === 0 ? undefined : complaint.pop();
  for (const line of complaint) writeError(line);
  if (said === undefined) return JSON.parse(Buffer.concat(answer).toString());
  const { error } = JSON.parse(said);
  throw new LazytreeError(error.code, error.message, error.hint ? { hint: error.hint } : {});
}
