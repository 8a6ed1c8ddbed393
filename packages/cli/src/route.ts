import { existsSync } from 'node:fs';
import { LazytreeError } from '@lazytree/core/errors';
import type { DaemonAhead } from '@lazytree/node/daemon-client';
import {
  daemonLog,
  daemonSocket,
  hasRemotes,
  homeDirectory,
  isClusterHome,
  keeperSocket,
  storeDirectory,
} from '@lazytree/node/home-directory';
import type { Caller } from './caller.js';
import { type Action, RUN_SCRIPTS } from './command.js';
import { COMMAND_NAMES, DAEMONS, HERE } from './command-names.js';

/** Looks for the socket of a daemon that has just taken the store. */
const LOOKS = 10;
const LOOK_MS = 25;
/** One that has had nothing to do for its time may end just before it is asked. */
const STARTS = 3;

/** Has the daemon, if one runs, carry a command line out; undefined when none does. */
export async function askRunningDaemon(args: readonly string[], caller: Caller): Promise<number | undefined> {
  // Most often there is none, and then nothing need be loaded to ask it.
  if (!existsSync(daemonSocket(homeDirectory()))) return undefined;
  const { throughDaemon } = await import('./through-daemon.js');
  return throughDaemon(args, caller);
}

/** The command that is named, and what may be its action. */
function wordsOf(args: readonly string[]): string[] {
  return args.filter((argument) => !argument.startsWith('-'));
}

/** Whether a command line is for the daemon if one runs, as far as can be told without loading its command. */
export function isForDaemon(args: readonly string[]): boolean {
  const [named, action] = wordsOf(args);
  if (!COMMAND_NAMES.some((name) => name === named)) return false;
  if (HERE.has(named) || HERE.has(`${named} ${action}`)) return false;
  if (args.includes(RUN_SCRIPTS)) return false;
  return !args.some((argument) => /^(?:--help|--version|-[A-Za-z]*[hV].*)$/.test(argument));
}

/**
 * Begins to start a daemon for a command line that will need one unless something is wrong with it, which takes as long
 * to find out as a process takes to begin. Not where nothing was ever stored, so that a slip of the pen makes no home.
 */
export async function startAhead(args: readonly string[]): Promise<DaemonAhead | undefined> {
  const [named, action] = wordsOf(args);
  if (!DAEMONS.has(named) && !DAEMONS.has(`${named} ${action}`)) return undefined;
  if (!existsSync(storeDirectory(homeDirectory()))) return undefined;
  const { prepareForCommand } = await import('./start-daemon.js');
  try {
    return prepareForCommand();
  } catch {
    // Whoever needs it then meets the same error, and tells of it.
    return undefined;
  }
}

/**
 * Whether mounts wait for a daemon, because theirs was killed: it is to have the store, and not a command that may itself
 * wait for one of them.
 */
function isAwaited(): boolean {
  return existsSync(keeperSocket(homeDirectory()));
}

/** Whether somebody outside of this machine may have what is not here. */
function hasOthers(): boolean {
  const home = homeDirectory();
  return isClusterHome(home) || hasRemotes(home);
}

export interface PerformOptions {
  args: readonly string[];
  caller: Caller;
  /** A daemon that is under way already. */
  ahead?: DaemonAhead | undefined;
  /** Runs the action in this process. */
  run(): Promise<number>;
}

/** Runs an action where it belongs: here, or in the daemon, which is started when it has to be. */
export async function performAnywhere(
  action: Action,
  { args, caller, ahead, run }: PerformOptions,
): Promise<number> {
  if (action.where === 'here' || (action.runsScripts && args.includes(RUN_SCRIPTS))) return run();
  if (action.where === 'daemon' || isAwaited()) return throughNewDaemon();
  const exitCode = await askRunningDaemon(args, caller);
  if (exitCode !== undefined) return exitCode;
  try {
    return await run();
  } catch (error) {
    const { code, name } = error as { code?: unknown; name?: unknown };
    // It may be at a peer or at a remote, which the daemon knows.
    if ((name === 'NotHereError' || code === 'BLOCK_MISSING') && hasOthers()) return throughNewDaemon();
    if (code !== 'LOCKED') throw error;
    const answer = await askNewDaemon();
    if (answer === undefined) throw error;
    return answer;
  }

  async function throughNewDaemon(): Promise<number> {
    const { startForCommand } = await import('./start-daemon.js');
    for (let start = 0; start < STARTS; start++) {
      await startForCommand(start === 0 ? ahead : undefined);
      const exitCode = await askRunningDaemon(args, caller);
      if (exitCode !== undefined) return exitCode;
    }
    throw new LazytreeError('FAILED', `the daemon of ${homeDirectory()} ends as soon as it is ready`, {
      hint: `see ${daemonLog(homeDirectory())}`,
    });
  }

  /** The store may have been taken by a daemon that was not there when this command looked. */
  async function askNewDaemon(): Promise<number | undefined> {
    for (let look = 0; look < LOOKS; look++) {
      const answer = await askRunningDaemon(args, caller);
      if (answer !== undefined) return answer;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    return undefined;
  }
}
