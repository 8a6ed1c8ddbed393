import { isImageSpec, type ResolvedTree, resolveTree } from '@lazytree/node';
import type { Context } from './command.js';

/** The tree that a command's argument names. An image needs no home. */
export async function openTree(context: Context, spec: string): Promise<ResolvedTree> {
  const home = isImageSpec(spec) ? undefined : await context.home({ create: false });
  return resolveTree(home, spec, { signal: context.signal });
}
