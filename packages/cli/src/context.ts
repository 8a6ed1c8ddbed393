import type { Home } from '@lazytree/node';
import type { Context } from './command.js';
import { oneLine } from './errors.js';
import { createProgress } from './progress.js';

export interface ContextOptions {
  json: boolean;
  signal: AbortSignal;
}

export function createContext({ json, signal }: ContextOptions): Context & { close(): Promise<void> } {
  let home: Promise<Home> | undefined;
  return {
    json,
    signal,
    home({ create }) {
      home ??= import('@lazytree/node').then(({ openHome }) => openHome({ create }));
      return home;
    },
    progress: (label) => createProgress(label),
    warn(text) {
      process.stderr.write(`lazytree: warning: ${oneLine(text)}\n`);
    },
    async close() {
      const opened = await home?.catch(() => undefined);
      await opened?.close();
    },
  };
}
