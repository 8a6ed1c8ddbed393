import type { Survey } from '@lazytree/core';
import type { Home } from '@lazytree/node';
import type { Host, Turns } from '@lazytree/node/daemon';
import type { ExecuteCommand } from '@lazytree/node/daemon-client';

/** Where commands get the home. */
export interface Homes {
  open(options: { create: boolean }): Promise<Home>;
  /** Whether it is opened for one command, which closes it again. */
  close: boolean;
  /** What the daemon owns; in the daemon. */
  host?: Host;
  /** Where several commands run at the same time: keeps apart what would meet. */
  turns?: Turns;
  /** In the daemon: runs what makes files with the caller's umask. */
  makeFiles?: <T>(task: () => Promise<T>) => Promise<T>;
  /** What a daemon carries commands out with; outside of one. */
  commands?: () => Promise<DaemonCommands>;
  /** In a process that runs one command. */
  ahead?: SurveyAhead | undefined;
}

/** A survey that began before the command line was understood. What it is of is a guess. */
export interface SurveyAhead {
  /** The survey, if it is to be used with this cache. */
  of(statCache: string): Survey | undefined;
  stop(): void;
}

export interface DaemonCommands {
  /** Runs them on what a daemon owns. */
  commandsOf(host: Host): ExecuteCommand;
  /** Reads the code of all of them, so that they run also when other files have taken its place. */
  loadCommands(): Promise<void>;
}

/** The home of a process that runs one command. */
export const ownHome = {
  async open({ create }) {
    const { openHome } = await import('@lazytree/node/home');
    return openHome({ create });
  },
  close: true,
} satisfies Homes;
