import type { LazytreeError, Survey } from '@lazytree/core';
import type { Home, RemoteNames } from '@lazytree/node';
import type { Cluster, FetchChain, Host } from '@lazytree/node/daemon';
import type { OriginCaller, Origins } from '@lazytree/node/origins';
import type { Remote, StorageTraffic } from '@lazytree/node/remotes';
import type { DaemonCommands } from './homes.js';
import type { Progress } from './progress.js';

/** Those outside of this machine who may have what is not here. */
export interface Network {
  /** Where all blocks come from. */
  fetch: FetchChain;
  /** This machine's part in a cluster, if it is in one. */
  cluster: Cluster | undefined;
  /** The home's remotes, if it has any. */
  remotes: RemoteNames | undefined;
}

/** What a command works with. Everything here is opened when it is first asked for. */
export interface Context {
  json: boolean;
  signal: AbortSignal;
  /** The home, made if need be; or, with `create: false`, NOT_FOUND when there is none. */
  home(options: { create: boolean }): Promise<Home>;
  /** What the daemon owns; for actions that run in the daemon alone. */
  host(): Host;
  /** Undefined outside of a daemon, and in one whose home is in no cluster and has no remotes. */
  network(): Promise<Network | undefined>;
  /** What outside of the cluster trees come from. Makes the home if need be. */
  origins(): Promise<Origins>;
  /** Whether it runs in a daemon, which knows peers. */
  hasHost: boolean;
  /** With whose tokens, and from where, origins are asked. */
  originCaller(): OriginCaller;
  /** A remote, opened with what the caller has. @throws LazytreeError NOT_FOUND, REFUSED */
  remote(name: string): Promise<Remote>;
  /** What has crossed between the daemon and a remote; undefined when it has not used it, and without a daemon. */
  remoteTraffic(name: string): Promise<StorageTraffic | undefined>;
  /** What is configured has changed: those who use remotes look again. */
  remotesChanged(name: string): Promise<void>;
  /** Runs what makes files for the caller, who may have another umask than the daemon. */
  makeFiles<T>(task: () => Promise<T>): Promise<T>;
  /** What a daemon carries commands out with; for the action that becomes one. */
  commands(): Promise<DaemonCommands>;
  /** A look at a directory, to be used with this stat cache, that is under way since before the command was. */
  survey(statCache: string): Survey | undefined;
  /** In one process, tasks with the same key follow one another: such as those that write to one place. */
  inTurn<T>(key: string, task: () => Promise<T>): Promise<T>;
  /** A path argument, made absolute from the caller's directory, which need not be this process's. */
  path(text: string): string;
  /**
   * Such a path of what is to be read or written.
   *
   * @throws LazytreeError REFUSED where the caller sees what the daemon does not
   */
  file(text: string): Promise<string>;
  /** Whether people read stdout: a terminal, and no pipe or file. */
  isRead: boolean;
  /** Runs when the command has ended, however it ends; or sooner, when the function returned is called. */
  afterwards(release: () => void): () => void;
  progress(label: string): Promise<Progress>;
  /** One line on stderr that is not an error. */
  warn(text: string): void;
}

/** What a command found out: as data for `--json`, and as text. */
export interface Output {
  data: unknown;
  /** Bytes for stdout, where a newline at the end is the command's own affair. */
  text?: string | Uint8Array | AsyncIterable<Uint8Array | string>;
  /** Instead: what it finds out one after another, until it ends. With `--json`, a document a line. */
  news?: AsyncIterable<{ data: unknown; text: string }>;
  /** When not 0: 3 for a thing partly done, 5 for corruption that was found. */
  exitCode?: number;
}

export type Options = Record<string, string | boolean | string[] | undefined>;

export interface Action {
  /** As commander wants it: `<required> [optional]`. */
  arguments: string;
  /** Flags and what they do. */
  options?: [flags: string, description: string, value?: string][];
  summary: string;
  /** More help, after the options. */
  details?: string;
  /**
   * `anywhere` (the default): in the daemon when one runs, else in the caller's process. `here`: always in the
   * caller's process. `daemon`: in the daemon, which is started when none runs.
   */
  where?: 'anywhere' | 'here' | 'daemon';
  /** Whether it runs in the caller's process when it is given `--run-scripts`, and asks the daemon for the rest. */
  runsScripts?: boolean;
  /** Whether it sees to SIGINT and SIGTERM itself, instead of to `Context.signal`. */
  handlesSignals?: boolean;
  /** Whether all that follows its first argument is for another program, options too. */
  passesThrough?: boolean;
  /**
   * In one process, actions that run a collection and those that exclude one follow one another: those that name a
   * tree which nothing may have kept until then, and those that judge the whole store.
   */
  collection?: 'runs' | 'excludes';
  run(context: Context, args: string[], options: Options): Promise<Output>;
}

/** A command is an action, or a group of them by name. */
export type Command = Action | { summary: string; actions: Record<string, Action> };

/** Has scripts of others run, which only the caller's own process does. */
export const RUN_SCRIPTS = '--run-scripts';

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
  NETWORK: ExitCode.network,
  ABORTED: ExitCode.interrupted,
};
