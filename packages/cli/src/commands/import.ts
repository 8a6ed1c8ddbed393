import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { fromSystemError, LazytreeError, toFsPath } from '@lazytree/core/survey';
import type { Action } from '../command.js';
import { importedDirectory, takeSurvey } from '../survey-ahead.js';

/**
 * What is needed to look at the directory, and no more: a thread does that while the rest of the program is loaded
 * (import-directory.ts) and the store opened.
 */
export const command: Action = {
  arguments: '<path>',
  summary: 'store a directory and print its root',
  options: [
    ['--name <ref>', 'point a ref to the root, and record a snapshot'],
    ['-m, --message <text>', 'message of the snapshot'],
    ['--preserve', 'keep permission bits and modification times'],
    ['--no-ignore', 'take what .lazytreeignore files leave out, too'],
    ['--no-cache', 'read every file, even those that look unchanged'],
  ],
  details: 'Symlinks are stored, never followed. Sockets, pipes and devices are left out, with exit code 3.',
  async run(context, [path], options) {
    const source = resolve(path);
    await assertDirectory(source);
    const surveyed = options.cache ? importedDirectory(source, options) : undefined;
    const survey = surveyed && takeSurvey(surveyed);
    try {
      const { importDirectory } = await import('../import-directory.js');
      return await importDirectory(
        context,
        { path, source, statCache: surveyed?.statCache, survey },
        options,
      );
    } finally {
      survey?.stop();
    }
  },
};

/** A wrong path must not leave a new home behind. */
async function assertDirectory(path: string): Promise<void> {
  const found = await stat(toFsPath(path)).catch((error: unknown) => {
    throw fromSystemError(error, `importing '${path}'`);
  });
  if (!found.isDirectory()) {
    throw new LazytreeError('USAGE', `'${path}' is not a directory`, {
      hint: 'import the directory that it is in',
    });
  }
}
