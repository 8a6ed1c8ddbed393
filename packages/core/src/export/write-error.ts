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

const ABOUT_BLOCKS: ReadonlySet<string> = new Set(['BLOCK_MISSING', 'CORRUPT', 'INVALID_NODE']);

export function isAboutBlock(error: unknown): error is LazytreeError {
  return error instanceof LazytreeError && ABOUT_BLOCKS.has(error.code);
}

/**
 * An error about a block says which block; this one also says which path of the tree needs it. Any other error
 * passes through unchanged.
 */
export function blockError(error: unknown, path: string): unknown {
  if (!isAboutBlock(error) || path === '') return error;
  const { code, message, hint } = error;
  return new LazytreeError(code, `'${path}': ${message}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Runs a task that reads the blocks of `path` in the tree. */
export async function reading<T>(path: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    throw blockError(error, path);
  }
}
