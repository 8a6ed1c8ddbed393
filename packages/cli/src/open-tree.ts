import { imageSpec, isImageSpec, type ResolvedTree, resolveTree } from '@lazytree/node';
import type { Context } from './command.js';

/**
 * The tree that a command's argument names. An image needs no home. Until the command ends, no gc in this process
 * takes the tree away.
 */
export async function openTree(context: Context, spec: string): Promise<ResolvedTree> {
  const { signal } = context;
  if (isImageSpec(spec)) return resolveTree(undefined, imageSpec(spec, context.path), { signal });
  const home = await context.home({ create: false });
  const tree = await resolveTree(home, spec, { signal });
  const lease = home.store.lease([tree.root]);
  context.afterwards(() => lease.release());
  return tree;
}
