import { errnoOf, fromSystemError, LazytreeError } from '../errors.js';

/** What to say when `path` could not be written. */
export function writeError(error: unknown, path: string): Error {
  if (errnoOf(error) !== 'EEXIST') return fromSystemError(error, `writing '${path}'`);
  return new LazytreeError(
    'FAILED',
    `'${path}' is there already: this file system takes two names of the tree for one`,
    {
      cause: error,
      hint: 'export to a file system that tells upper and lower case apart',
    },
  );
}

/** Runs a task that writes `path`. */
export function attempt<T>(path: string, task: () => T): T {
  try {
    return task();
  } catch (error) {
    throw writeError(error, path);
  }
}
