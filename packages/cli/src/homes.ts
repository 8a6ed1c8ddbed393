import type { Home } from '@lazytree/node';
import type { Host } from '@lazytree/node/daemon';

/** Where commands get the home. */
export interface Homes {
  open(options: { create: boolean }): Promise<Home>;
  /** Whether it is opened for one command, which closes it again. */
  close: boolean;
  /** What the daemon owns. */
  host?: Host;
}

/** The home of a process that runs one command. */
export const ownHome: Homes = {
  async open({ create }) {
    const { openHome } = await import('@lazytree/node');
    return openHome({ create });
  },
  close: true,
};
