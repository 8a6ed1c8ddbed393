import { LazytreeError, type Link } from '@lazytree/core';
import type { Cluster } from './cluster/cluster.js';
import type { RemoteNames } from './remotes/remotes.js';

/** Those who know names that are not known here. */
export interface NameSources {
  cluster: Pick<Cluster, 'findRef'> | undefined;
  remotes: RemoteNames | undefined;
  signal: AbortSignal;
}

/**
 * The root that `NAME` or `NAME@WHERE` stands for outside of this home. WHERE is a remote, and else a peer: what a home
 * calls its remotes is nobody else's choice. A bare NAME is looked for among the peers, and then at the remotes.
 *
 * @throws LazytreeError NOT_FOUND when everyone was asked, and what those who are asked throw
 */
export async function findRefElsewhere(
  name: string,
  where: string | undefined,
  { cluster, remotes, signal }: NameSources,
): Promise<Link> {
  const known = remotes?.list() ?? [];
  if (remotes && where !== undefined && known.includes(where)) {
    return (await remotes.findRef(name, where, signal)).root;
  }
  const asks: (() => Promise<Link>)[] = [];
  // A ref that was removed has no root, and is not found.
  if (cluster) asks.push(async () => (await cluster.findRef(name, where, signal)).root as Link);
  if (remotes && where === undefined && known.length > 0) {
    asks.push(async () => (await remotes.findRef(name, undefined, signal)).root);
  }
  const failures: LazytreeError[] = [];
  for (const ask of asks) {
    try {
      return await ask();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof LazytreeError)) throw error;
      failures.push(error);
      if (error.code !== 'NOT_FOUND') break;
    }
  }
  if (where !== undefined && remotes) failures.push(noRemote(where));
  throw failures.length === 0 ? nowhere(name, where) : inOne(failures);
}

function noRemote(name: string): LazytreeError {
  return new LazytreeError('NOT_FOUND', `there is no remote '${name}'`, {
    hint: 'list them with `lazytree remote list`',
  });
}

function nowhere(name: string, where: string | undefined): LazytreeError {
  if (where !== undefined) return noRemote(where);
  return new LazytreeError('NOT_FOUND', `there is no ref '${name}', and it is not a CID`, {
    hint: 'list the refs with `lazytree ref list`',
  });
}

/** The one that is not NOT_FOUND says most; it is the last of those who were asked. */
function inOne(failures: readonly LazytreeError[]): LazytreeError {
  if (failures.length === 1) return failures[0];
  const worst = failures.find(({ code }) => code !== 'NOT_FOUND') ?? failures[0];
  const hint = worst.hint === undefined ? {} : { hint: worst.hint };
  return new LazytreeError(worst.code, failures.map(({ message }) => message).join('; '), {
    cause: worst,
    ...hint,
  });
}
