import { LazytreeError } from '@lazytree/core';
import type { Terminal } from './terminal.js';

/** What a command says with `--json` when the daemon carries it out, which is started when none runs. */
export async function askForJson(args: readonly string[], signal: AbortSignal): Promise<unknown> {
  const [{ startForCommand }, { throughDaemon }] = await Promise.all([
    import('./start-daemon.js'),
    import('./through-daemon.js'),
  ]);
  const answer: Buffer[] = [];
  const complaint: Buffer[] = [];
  const terminal: Terminal = {
    isRead: false,
    async write(part) {
      answer.push(Buffer.from(part as string));
      return true;
    },
    writeError: (text) => void complaint.push(Buffer.from(text as string)),
    progress: async () => ({ update: () => undefined, stop: () => undefined }),
    endless: () => undefined,
    outcome: () => undefined,
  };
  const caller = { terminal, signal, directory: '/', env: process.env, debug: false };
  let exitCode: number | undefined;
  while (exitCode === undefined) {
    exitCode = await throughDaemon([...args, '--json'], caller);
    if (exitCode === undefined) await startForCommand();
  }
  if (exitCode === 0) return JSON.parse(Buffer.concat(answer).toString());
  const { error } = JSON.parse(Buffer.concat(complaint).toString());
  throw new LazytreeError(error.code, error.message, error.hint ? { hint: error.hint } : {});
}
