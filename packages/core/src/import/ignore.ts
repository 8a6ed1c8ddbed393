import fs from 'node:fs';
import { join } from 'node:path';
import ignore, { type Ignore } from 'ignore';
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
  /** The rules of a directory below, given whether it has an ignore file of its own. */
  enter(directory: string, hasIgnoreFile: boolean): IgnoreRules;
}

/** The rules of one ignore file. */
interface Layer {
  /** Path of the directory relative to the root, with a trailing slash, or empty. */
  prefix: string;
  /** The last one first. */
  runs: readonly Run[];
}

/** Rules that follow one another and say the same of what they match. */
interface Run {
  ignored: boolean;
  matches(path: string): boolean;
}

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
        const { prefix, runs } = layers[i];
        const run = runs.find(({ matches }) => matches(marked.slice(prefix.length)));
        if (run) return run.ignored;
      }
      return false;
    },
    enter(directory, hasIgnoreFile) {
      const text = hasIgnoreFile ? readRules(join(root, directory, IGNORE_FILE)) : undefined;
      if (text === undefined) return this;
      const prefix = directory === '' ? '' : `${directory}/`;
      const mixed = digestOf(nameToBytes(`${fingerprint}\0${prefix}\0${text}`));
      return rules(root, [...layers, { prefix, runs: parseRules(text) }], mixed);
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

function parseRules(text: string): Run[] {
  const runs: { ignored: boolean; lines: string[] }[] = [];
  for (const line of text.replace(BYTE_ORDER_MARK, '').split('\n')) {
    if (line.startsWith('#')) continue;
    const ignored = !line.startsWith('!');
    if (runs.at(-1)?.ignored !== ignored) runs.push({ ignored, lines: [] });
    runs.at(-1)?.lines.push(ignored ? `!${line}` : line);
  }
  return runs.reverse().map(({ ignored, lines }) => {
    const matcher = ignore({ allowRelativePaths: true, ignorecase: false }).add(lines.join('\n'));
    return { ignored, matches: (path) => matchesItself(matcher, path) };
  });
}

/**
 * Whether a rule matches the path as such. A matcher takes what is below an ignored directory for ignored, even
 * where a deeper file has un-ignored that directory; one of nothing but exceptions has no ignored directories,
 * and says of a path itself that it is one. So all rules are made exceptions.
 */
function matchesItself(matcher: Ignore, path: string): boolean {
  return matcher.test(path).unignored;
}
