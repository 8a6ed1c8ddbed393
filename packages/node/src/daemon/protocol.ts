import type { ProgressEvent } from './frames.js';

/** Where the API begins. Another version that its callers could not use gets another. */
export const API = '/v1';
/** Header of a request: the caller's version. Without it, it is not compared. */
export const VERSION_HEADER = 'lazytree-version';
/** Header of an answer: what `DELETE /v1/commands/ID` takes to cancel the command. */
export const COMMAND_HEADER = 'lazytree-command';
export const FRAMES_TYPE = 'application/vnd.lazytree.frames';

/** A command line, and what it may know of who gave it. */
export interface CommandRequest {
  argv: string[];
  /** What relative paths begin at; absent when the caller's directory is gone. */
  cwd?: string;
  /** Permission bits that files which the command makes for the caller do not get. */
  umask?: number;
  terminal: {
    /** Whether stdout is a terminal, for which names are escaped. */
    stdout: boolean;
    /** Whether progress is wanted. */
    progress: boolean;
  };
  /** Variables that begin with LAZYTREE_, and those that open remotes: secrets, which are kept in memory alone. */
  env: Record<string, string>;
}

/** Where the output of a command goes that the daemon runs for somebody. */
export interface CommandOutput {
  /** Aborted when the command is cancelled or nobody is there any more. */
  readonly signal: AbortSignal;
  /** At the reader's pace. False when the reader has gone. */
  stdout(part: Uint8Array): Promise<boolean>;
  stderr(text: string): void;
  progress(event: ProgressEvent): void;
  /** The command goes on until it is cancelled: an ending daemon does not wait for it. */
  endless(): void;
  /** The exit code that stands, should the caller not want to read stdout to its end. */
  outcome(exitCode: number): void;
}

/** Runs a command line and returns its exit code. Never throws. */
export type ExecuteCommand = (request: CommandRequest, output: CommandOutput) => Promise<number>;

export interface DaemonStatus {
  pid: number;
  version: string;
  home: string;
  /** Seconds since it was ready. */
  uptime: number;
  /** Whether it stays when it has nothing to do. */
  stays: boolean;
  /** Whether it has mounts or workspaces. */
  busy: boolean;
  commands: { id: number; name: string; seconds: number }[];
}

/** The body of every answer that is no success. */
export interface Refusal {
  error: { code: 'USAGE' | 'NOT_FOUND' | 'VERSION' | 'CLOSING' | 'FAILED'; message: string };
  pid: number;
}
