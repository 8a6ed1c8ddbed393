import type { Link } from '@lazytree/core';
import { readMounts } from './mounts/mount-table.js';
import { readWorkspaces } from './workspaces/workspace-record.js';

/** The roots that a home's mounts and workspaces need, whether a daemon serves them now or not: gc has to keep them. */
export async function heldRoots(home: string): Promise<Link[]> {
  const mounts = await readMounts(home);
  const workspaces = await readWorkspaces(home);
  return [...mounts.map(({ root }) => root), ...workspaces.flatMap(({ base, saved }) => [base, saved])];
}
