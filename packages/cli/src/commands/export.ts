import { LazytreeError } from '@lazytree/core/survey';
import type { Action } from '../command.js';
import { exportedDirectory, takeSurvey } from '../survey-ahead.js';

/**
 * As with `import`, what is needed to look at a directory that is in use, and no more: the rest is loaded (see
 * export-spec.ts) while a thread looks.
 */
export const command: Action = {
  arguments: '<tree> <dir>',
  summary: 'write a tree to a directory',
  options: [
    ['--update', 'make the directory equal to the tree, touching only what differs'],
    ['--force', 'write over what is there, leaving what the tree does not have'],
  ],
  async run(context, [spec, target], { update, force }) {
    if (update && force) throw new LazytreeError('USAGE', '--update and --force exclude each other');
    const existing = update ? 'update' : force ? 'force' : 'refuse';
    const exported = exportedDirectory(target);
    const survey = existing === 'refuse' ? undefined : takeSurvey(exported);
    try {
      const { exportSpec } = await import('../export-spec.js');
      return await exportSpec(context, { spec, target, existing, statCache: exported.statCache, survey });
    } finally {
      survey?.stop();
    }
  },
};
