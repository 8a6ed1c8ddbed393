import { createProgress, type Progress } from './progress.js';

/** Where a command's output goes: this process's own, or that of a caller far away. */
export interface Terminal {
  /** Whether people read stdout: a terminal, and no pipe or file. */
  readonly isRead: boolean;
  /** Writes to stdout at the pace of whoever reads it. False when the reader has gone: nobody is left to tell. */
  write(part: string | Uint8Array): Promise<boolean>;
  writeError(text: string | Uint8Array): void;
  progress(label: string): Promise<Progress>;
  /** Told that the command goes on until it is interrupted. */
  endless(): void;
  /** Told before stdout what exit code a command has that gets to its end. */
  outcome(exitCode: number): void;
}

export function ownTerminal(): Terminal {
  const { stdout, stderr } = process;
  let gone = false;
  // Each write learns of its own failure.
  stdout.on('error', () => undefined);
  // The exit code says what cannot be said otherwise.
  stderr.on('error', () => undefined);
  return {
    isRead: stdout.isTTY === true,
    write(part) {
      if (gone) return Promise.resolve(false);
      const { promise, resolve, reject } = Promise.withResolvers<boolean>();
      stdout.write(part, (error: NodeJS.ErrnoException | null | undefined) => {
        if (!error) return resolve(true);
        gone = true;
        if (error.code === 'EPIPE') resolve(false);
        else reject(error);
      });
      return promise;
    },
    writeError(text) {
      try {
        stderr.write(text);
      } catch {
        // A file, on a full disk.
      }
    },
    progress: createProgress,
    endless: () => undefined,
    outcome: () => undefined,
  };
}

/** Writes to stdout until its reader has gone. */
export async function writeOut(
  terminal: Terminal,
  text: string | Uint8Array | AsyncIterable<Uint8Array | string>,
): Promise<void> {
  if (typeof text === 'string' || text instanceof Uint8Array) {
    await terminal.write(text);
    return;
  }
  for await (const part of text) if (!(await terminal.write(part))) return;
}
