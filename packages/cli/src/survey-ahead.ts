import { resolve } from 'node:path';
import { beginSurvey, type Survey, statCacheFile } from '@lazytree/core/survey';
import { homeDirectory, storeDirectory } from '@lazytree/node/home-directory';
import type { Options } from './command.js';

/** A directory that a command compares with what is known of it, and what that is known from. */
interface Surveyed {
  path: string;
  statCache: string;
}

/**
 * A thread needs as long to start as the rest of a command. So a survey begins before the command line is understood:
 * what it is of is a guess, and whoever wants one gets it only where the guess was right.
 */
let ahead: (Surveyed & { survey: Survey | undefined }) | undefined;

export function importedDirectory(path: string, { preserve, ignore }: Options): Surveyed {
  const use = `import${preserve ? ' preserve' : ''}${ignore ? '' : ' all'}`;
  return cachedAs(use, path);
}

export function exportedDirectory(path: string): Surveyed {
  return cachedAs('export', path);
}

function cachedAs(use: string, path: string): Surveyed {
  const full = resolve(path);
  return { path: full, statCache: statCacheFile(storeDirectory(homeDirectory()), use, full) };
}

export function surveyAhead(argv: readonly string[]): void {
  const wanted = guess(argv);
  if (wanted) ahead = { ...wanted, survey: beginSurvey(wanted.path, wanted.statCache) };
}

/** The survey that is under way, or another one. */
export function takeSurvey({ path, statCache }: Surveyed): Survey | undefined {
  const begun = ahead;
  ahead = undefined;
  if (begun?.path === path && begun.statCache === statCache) return begun.survey;
  begun?.survey?.stop();
  return beginSurvey(path, statCache);
}

const WITH_VALUE = new Set(['--name', '-m', '--message']);

function guess(argv: readonly string[]): Surveyed | undefined {
  const [command, first, second] = argv.filter(
    (text, i) => !text.startsWith('-') && !WITH_VALUE.has(argv[i - 1]),
  );
  const has = (flag: string) => argv.includes(flag);
  if (command === 'import' && first !== undefined && !has('--no-cache')) {
    return importedDirectory(first, { preserve: has('--preserve'), ignore: !has('--no-ignore') });
  }
  const updates = command === 'export' && (has('--update') || has('--force'));
  return updates && second !== undefined ? exportedDirectory(second) : undefined;
}
