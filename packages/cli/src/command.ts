import type { LazytreeError } from '@lazytree/core';
import type { Home } from '@lazytree/node';

/** What a command works with. Everything here is opened when it is first asked for. */
export interface Context {
  json: boolean;
  signal: AbortSignal;
  /** The home, made if need be; or, with `create: false`, NOT_FOUND when there is none. */
  home(options: { create: boolean }): Promise<Home>;
  progress(label: string): Promise<Progress>;
  /** One line on stderr that is not an error. */
  warn(text: string): void;
}

/** A bar on the terminal, or nothing where stderr is not one. */
export interface Progress {
  update(state: { files: number; bytes: number; totalFiles?: number; totalBytes?: number }): void;
  stop(): void;
}

/** What a command found out: as data for `--json`, and as text. */
export interface Output {
  data: unknown;
  /** Bytes for stdout, where a newline at the end is the command's own affair. */
  text?: string | Uint8Array | AsyncIterable<Uint8Array | string>;
  /** When not 0: 3 for a thing partly done, 5 for corruption that was found. */
  exitCode?: number;
}

export type Options = Record<string, string | boolean | undefined>;

export interface Action {
  /** As commander wants it: `<required> [optional]`. */
  arguments: string;
  /** Flags and what they do. */
  options?: [flags: string, description: string][];
  summary: string;
  /** More help, after the options. */
  details?: string;
  run(context: Context, args: string[], options: Options): Promise<Output>;
}

/** A command is an action, or a group of them by name. */
export type Command = Action | { summary: string; actions: Record<string, Action> };

/** Exit codes are a contract (DESIGN section 11). */
export const ExitCode = {
  done: 0,
  failed: 1,
  usage: 2,
  partly: 3,
  notFound: 4,
  corrupt: 5,
  locked: 6,
  network: 7,
  refused: 8,
  interrupted: 130,
} as const;

export const EXIT_CODES: Record<LazytreeError['code'], number> = {
  FAILED: ExitCode.failed,
  UNSUPPORTED: ExitCode.failed,
  NO_SPACE: ExitCode.failed,
  USAGE: ExitCode.usage,
  NOT_FOUND: ExitCode.notFound,
  BLOCK_MISSING: ExitCode.notFound,
  CORRUPT: ExitCode.corrupt,
  INVALID_NODE: ExitCode.corrupt,
  LOCKED: ExitCode.locked,
  REFUSED: ExitCode.refused,
  NOT_EMPTY: ExitCode.refused,
  ABORTED: ExitCode.interrupted,
};
