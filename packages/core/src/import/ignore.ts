import fs from 'node:fs';
import { join } from 'node:path';
import ignore from 'ignore';
import { errnoOf, fromSystemError } from '../errors.js';
import { digestOf } from '../format/link.js';
import { nameFromBytes, nameToBytes, toFsPath } from '../format/name.js';
import { IGNORE_FILE } from './ignore-file.js';

/** The rules in force in one directory: those of its own ignore file and of the ones above. */
export interface IgnoreRules {
  /** Changes when any rule in force does. */
  readonly fingerprint: string;
  /** Whether a path relative to the import's root is left out, given that the directories above it are not. */
  ignores(path: string, isDirectory: boolean): boolean;
  /** The rules of a directory below, given whether it has an ignore file of its own, or what that says. */
  enter(directory: string, ignoreFile: boolean | string): IgnoreRules;
}

/** The rules of one ignore file. */
interface Layer {
  /** Path of the directory relative to the root, with a trailing slash, or empty. */
  prefix: string;
  /** What its rules say of a path relative to the directory, if anything. */
  ignores(path: string): boolean | undefined;
}

/** Tells whether one of some rules matches a path. */
type Matcher = (path: string) => boolean;

/** Rules of gitignore(5) read from `.lazytreeignore` files: the deepest file with an opinion decides. */
export function createIgnoreRules(root: string): IgnoreRules {
  return rules(root, [], '');
}

function rules(root: string, layers: readonly Layer[], fingerprint: string): IgnoreRules {
  return {
    fingerprint,
    ignores(path, isDirectory) {
      const marked = isDirectory ? `${path}/` : path;
      for (let i = layers.length - 1; i >= 0; i--) {
        const { prefix, ignores } = layers[i];
        const ignored = ignores(marked.slice(prefix.length));
        if (ignored !== undefined) return ignored;
      }
      return false;
    },
    enter(directory, ignoreFile) {
      const text = ignoreFile === true ? readRules(join(root, directory, IGNORE_FILE)) : ignoreFile;
      if (text === undefined || text === false) return this;
      const prefix = directory === '' ? '' : `${directory}/`;
      const mixed = digestOf(nameToBytes(`${fingerprint}\0${prefix}\0${text}`));
      return rules(root, [...layers, { prefix, ignores: parseRules(text) }], mixed);
    },
  };
}

/** As in git, only a regular file has rules in it: a symlink would lead out of the tree, a pipe never end. */
const FLAGS =
  fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK | fs.constants.O_NOCTTY;
/** No file, a symlink, a socket or a device without a driver. */
const NO_RULES = new Set(['ENOENT', 'ELOOP', 'ENXIO', 'ENODEV']);

function readRules(file: string): string | undefined {
  let fd: number | undefined;
  try {
    fd = fs.openSync(toFsPath(file), FLAGS);
    return fs.fstatSync(fd).isFile() ? nameFromBytes(fs.readFileSync(fd)) : undefined;
  } catch (error) {
    if (NO_RULES.has(errnoOf(error) ?? '')) return undefined;
    throw fromSystemError(error, `reading ${file}`);
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

const BYTE_ORDER_MARK = /^\uFEFF/;

/** The last rule that matches decides. */
function parseRules(text: string): Layer['ignores'] {
  const runs: { ignored: boolean; lines: string[] }[] = [];
  for (const line of text.replace(BYTE_ORDER_MARK, '').split('\n')) {
    if (line.startsWith('#')) continue;
    const ignored = !line.startsWith('!');
    if (runs.at(-1)?.ignored !== ignored) runs.push({ ignored, lines: [] });
    runs.at(-1)?.lines.push(ignored ? `!${line}` : line);
  }
  const matchesAny = createMatcher(runs.flatMap(({ lines }) => lines));
  // Most paths match no rule, and then one question is enough.
  if (runs.length === 1) return (path) => (matchesAny(path) ? runs[0].ignored : undefined);
  const lastFirst = runs.reverse().map(({ ignored, lines }) => ({ ignored, matches: createMatcher(lines) }));
  return (path) => (matchesAny(path) ? lastFirst.find(({ matches }) => matches(path))?.ignored : undefined);
}

/**
 * @param exceptions rules that all begin with `!`. Of other ones the library says that they match all that is
 * below a directory that they match, which is wrong where a deeper file has made an exception of the directory.
 */
function createMatcher(exceptions: readonly string[]): Matcher {
  const rules = ignore({ allowRelativePaths: true, ignorecase: false }).add(exceptions.join('\n'));
  return (path) => rules.test(path).unignored;
}
