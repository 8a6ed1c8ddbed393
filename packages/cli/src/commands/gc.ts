import { gc, LazytreeError } from '@lazytree/core';
import { heldRoots } from '@lazytree/node';
import type { Action } from '../command.js';
import { formatBytes } from '../output.js';

export const command: Action = {
  arguments: '',
  summary: 'remove what no ref, snapshot, pin, mount or workspace keeps, and give its space back',
  options: [
    ['--keep <snapshots>', 'of each ref, keep only this many of the newest snapshots'],
    ['--dry-run', 'only say what would be removed'],
  ],
  collection: 'runs',
  async run(context, _, { keep, dryRun }) {
    const { store, directory } = await context.home({ create: false });
    const progress = await context.progress('gc');
    try {
      const report = await gc(store, {
        roots: await heldRoots(directory),
        ...(keep === undefined ? {} : { keep: wholeNumber(String(keep)) }),
        dryRun: dryRun === true,
        signal: context.signal,
        onProgress: ({ done }) => progress.update({ files: done, bytes: 0 }),
      });
      const { kept, removed, reclaimed, missing } = report;
      const verb = dryRun ? 'would remove' : 'removed';
      const note = missing > 0 ? `, ${missing} reachable blocks are not here` : '';
      return {
        data: report,
        text: `${verb} ${removed} blocks (${formatBytes(reclaimed)}), kept ${kept}${note}\n`,
      };
    } finally {
      progress.stop();
    }
  },
};

function wholeNumber(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new LazytreeError('USAGE', `--keep takes a whole number from 1, not '${text}'`);
}
