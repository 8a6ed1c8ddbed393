import { resolve } from 'node:path';
import { beginSurvey, statCacheFile } from '@lazytree/core/survey';
import { homeDirectory, storeDirectory } from '@lazytree/node/home-directory';
import type { Caller } from './caller.js';
import { absolutePath } from './context.js';
import type { SurveyAhead } from './homes.js';
import { EXPORT_USE, importUse } from './stat-cache-use.js';

/**
 * Begins a survey of the directory that a command line seems to be about: the survey's second thread takes as long to
 * start as the rest of a command. Returns undefined where there is nothing to be guessed, or to be surveyed.
 */
export function surveyAhead(args: readonly string[], caller: Caller): SurveyAhead | undefined {
  const guessed = guess(args);
  if (!guessed?.path || caller.directory === undefined) return undefined;
  const path = absolutePath(guessed.path, caller);
  const statCache = statCacheFile(storeDirectory(homeDirectory()), guessed.use, resolve(path));
  const survey = beginSurvey(path, statCache);
  return survey && { of: (wanted) => (wanted === statCache ? survey : undefined), stop: survey.stop };
}

const WITH_VALUE = new Set(['--name', '-m', '--message']);

function guess(args: readonly string[]): { path: string | undefined; use: string } | undefined {
  const [command, first, second] = args.filter(
    (text, i) => !text.startsWith('-') && !WITH_VALUE.has(args[i - 1]),
  );
  const has = (flag: string) => args.includes(flag);
  if (command === 'import' && !has('--no-cache')) {
    return { path: first, use: importUse({ preserve: has('--preserve'), ignore: !has('--no-ignore') }) };
  }
  const updates = command === 'export' && (has('--update') || has('--force'));
  return updates ? { path: second, use: EXPORT_USE } : undefined;
}
