import { formatLink } from '@lazytree/core';
import type { Action } from '../command.js';
import { openMountable } from '../mountable.js';

export const command: Action = {
  arguments: '<tree> <dir>',
  summary: 'show a tree in a directory, read-only; its content comes as it is read',
  options: [['--no-prefetch', 'fetch nothing before it is read']],
  details: 'The directory is made if it is not there, and must be empty. Mounts come back with the daemon.',
  where: 'daemon',
  collection: 'excludes',
  async run(context, [spec, directory], { prefetch }) {
    const { root, tree, image } = await openMountable(context, spec, 'trees');
    const { mounts, workspaces } = context.host();
    await workspaces.refuseTarget(context.path(directory));
    const { target } = await mounts.mount({
      root,
      tree,
      image,
      target: context.path(directory),
      prefetch: prefetch === true,
    });
    const cid = formatLink(root);
    return { data: { target, root: cid }, text: `${target}\n` };
  },
};
