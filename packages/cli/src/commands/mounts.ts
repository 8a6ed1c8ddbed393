import { formatLink } from '@lazytree/core';
import type { MountUse } from '@lazytree/node';
import type { Action } from '../command.js';
import { oneLine } from '../one-line.js';
import { formatBytes, table } from '../output.js';

export const command: Action = {
  arguments: '',
  summary: 'list mounts and workspaces, with what has been asked of them',
  where: 'daemon',
  async run(context) {
    const { mounts, workspaces } = context.host();
    const plain = (await mounts.list()).map(({ root, ...rest }) => ({
      kind: 'mount' as const,
      ...rest,
      root: formatLink(root),
    }));
    const forks = (await workspaces.list()).map(({ name, target, base, state, size, files, use }) => ({
      kind: 'workspace' as const,
      name,
      target,
      root: formatLink(base),
      state,
      size,
      files,
      use,
    }));
    const all = [...plain, ...forks];
    const rows = all.map(({ kind, target, root, state, size, files, use }) => [
      oneLine(target),
      kind,
      state,
      root,
      `${files} files, ${formatBytes(size)}`,
      describeUse(use),
    ]);
    return { data: { mounts: all }, text: table(rows) };
  },
};

function describeUse({ requests, reads, bytes, hits, pushed }: MountUse): string {
  const rate = requests === 0 ? 100 : (hits / requests) * 100;
  return `${requests} requests (${rate.toFixed(1)}% from the store), ${reads} reads of ${formatBytes(bytes)}, ${pushed} files pushed`;
}
