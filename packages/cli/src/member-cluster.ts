import { NotHereError } from '@lazytree/node';
import type { Cluster } from '@lazytree/node/daemon';
import type { Context } from './command.js';

/** The cluster of this machine. @throws NotHereError outside of a member's daemon */
export async function memberCluster(context: Context): Promise<Cluster> {
  const network = await context.network();
  if (network?.cluster) return network.cluster;
  throw new NotHereError('this machine is in no cluster', {
    hint: 'begin one with `lazytree cluster init`, or join one with `lazytree cluster join TOKEN`',
  });
}
