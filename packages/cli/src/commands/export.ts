import { resolve } from 'node:path';
import {
  asDirectory,
  type ExportOptions,
  exportTree,
  formatLink,
  LazytreeError,
  type LocalStore,
  statCacheFile,
} from '@lazytree/core';
import { isImageSpec } from '@lazytree/node';
import { type Action, ExitCode } from '../command.js';
import { openTree } from '../open-tree.js';
import { EXPORT_USE } from '../stat-cache-use.js';

export const command: Action = {
  arguments: '<tree> <dir>',
  summary: 'write a tree to a directory',
  options: [
    ['--update', 'make the directory equal to the tree, touching only what differs'],
    ['--force', 'write over what is there, leaving what the tree does not have'],
  ],
  makesFiles: true,
  async run(context, [spec, dir], { update, force }) {
    if (update && force) throw new LazytreeError('USAGE', '--update and --force exclude each other');
    const target = await context.file(dir);
    const tree = await openTree(context, spec);
    const progress = await context.progress('export');
    try {
      const { link } = asDirectory(tree.entry, spec);
      const store = isImageSpec(spec) ? undefined : (tree.store as LocalStore);
      const statCache = store && statCacheFile(store.directory, EXPORT_USE, resolve(target));
      const options: ExportOptions = {
        existing: update ? 'update' : force ? 'force' : 'refuse',
        ...(statCache === undefined ? {} : { statCache, survey: context.survey(statCache) }),
        signal: context.signal,
        onProgress: (state) => progress.update(state),
      };
      const write = () => exportTree(tree.store, link, target, options);
      const result = await context.inTurn(`export ${resolve(target)}`, write);
      for (const path of result.origins) context.warn(`${path}: an origin that is not resolved, left out`);
      return {
        data: { ...result, root: formatLink(result.root), target: resolve(target) },
        exitCode: result.origins.length > 0 ? ExitCode.partly : ExitCode.done,
      };
    } finally {
      progress.stop();
      await tree.close();
    }
  },
};
