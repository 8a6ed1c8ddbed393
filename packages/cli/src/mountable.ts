import { asDirectory, type Link } from '@lazytree/core';
import type { Context } from './command.js';
import { openTree } from './open-tree.js';

/** A directory that a mount or a workspace can show. */
export interface Mountable {
  root: Link;
  /** As it was asked for. */
  tree: string;
  /** The image that has it, if it is not in the store. */
  image?: string;
}

/** @param kind of what will show it, if something will: that is begun while its directories are fetched */
export async function openMountable(
  context: Context,
  spec: string,
  kind?: 'trees' | 'lower',
): Promise<Mountable> {
  const onFetch = kind === undefined ? undefined : () => context.host().mounts.prepare(kind);
  const tree = await openTree(context, spec, onFetch && { onFetch, readable: true });
  try {
    const { link } = asDirectory(tree.entry, spec);
    // Its origins are resolved when they are looked into, by nobody in particular.
    (await context.origins()).remember(link, context.originCaller());
    return { root: link, tree: spec, ...(tree.image === undefined ? {} : { image: tree.image }) };
  } finally {
    await tree.close();
  }
}
