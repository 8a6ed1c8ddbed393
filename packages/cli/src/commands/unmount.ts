import { formatLink } from '@lazytree/core';
import type { Action } from '../command.js';

export const command: Action = {
  arguments: '<dir>',
  summary: 'take a mount away',
  options: [['--lazy', 'also when it is in use, and leave it to those who have it open']],
  where: 'daemon',
  async run(context, [directory], { lazy }) {
    const { mounts, workspaces } = context.host();
    await workspaces.refuseTarget(context.path(directory));
    const { target, root } = await mounts.unmount(context.path(directory), { lazy: lazy === true });
    return { data: { target, root: formatLink(root) } };
  },
};
