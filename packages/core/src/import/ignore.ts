import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ignore, { type Ignore } from 'ignore';
import { errnoOf, fromSystemError } from '../errors.js';
import { digestOf } from '../format/link.js';
import { toFsPath } from '../format/name.js';

export const IGNORE_FILE = '.lazytreeignore';

/** The rules in force in one directory: those of its own ignore file and of the ones above. */
export interface IgnoreRules {
  /** Changes when any rule in force does. */
  readonly fingerprint: string;
  /** Whether a path relative to the import's root is left out. */
  ignores(path: string, isDirectory: boolean): boolean;
  /** The rules of a directory below, given whether it has an ignore file of its own. */
  enter(directory: string, hasIgnoreFile: boolean): IgnoreRules;
}

interface Layer {
  /** Path of the directory relative to the root, with a trailing slash, or empty. */
  prefix: string;
  matcher: Ignore;
}

/** Rules of gitignore(5) read from `.lazytreeignore` files: the deepest file with an opinion decides. */
export function createIgnoreRules(root: string): IgnoreRules {
  return rules(root, [], '');
}

function rules(root: string, layers: readonly Layer[], fingerprint: string): IgnoreRules {
  return {
    fingerprint,
    ignores(path, isDirectory) {
      for (let i = layers.length - 1; i >= 0; i--) {
        const { prefix, matcher } = layers[i];
        const { ignored, unignored } = matcher.test(path.slice(prefix.length) + (isDirectory ? '/' : ''));
        if (ignored) return true;
        if (unignored) return false;
      }
      return false;
    },
    enter(directory, hasIgnoreFile) {
      const text = hasIgnoreFile ? readRules(join(root, directory, IGNORE_FILE)) : undefined;
      if (text === undefined) return this;
      const prefix = directory === '' ? '' : `${directory}/`;
      const matcher = ignore({ allowRelativePaths: true, ignorecase: false }).add(text);
      const mixed = digestOf(Buffer.from(`${fingerprint}\0${prefix}\0${text}`));
      return rules(root, [...layers, { prefix, matcher }], mixed);
    },
  };
}

function readRules(file: string): string | undefined {
  try {
    return readFileSync(toFsPath(file), 'utf8');
  } catch (error) {
    const errno = errnoOf(error);
    // A directory of that name has no rules in it, and one that has just gone has none either.
    if (errno === 'ENOENT' || errno === 'EISDIR') return undefined;
    throw fromSystemError(error, `reading ${file}`);
  }
}
