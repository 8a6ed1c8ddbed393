// The programs that lazytree is compared with, with their defaults, and all of their state in directories of ours.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { isInstalled, run, shell, VerificationError } from './command.mjs';

/** @typedef {import('./command.mjs').Command} Command */

export const TAR_ZSTD = 'tar \\| zstd';
export const GIT_STATUS = 'git status';

/** Command -> how to ask for its version. */
const VERSION_OF = {
  tar: ['--version'],
  zstd: ['--version'],
  git: ['--version'],
  restic: ['version'],
  borg: ['--version'],
  casync: ['--version'],
  mksquashfs: ['-version'],
  squashfuse_ll: ['--help'],
  bindfs: ['--version'],
  rsync: ['--version'],
  socat: ['-V'],
  syncthing: ['--version'],
  rclone: ['version'],
};

/** @typedef {keyof typeof VERSION_OF} Tool */

/** @param {Tool[]} tools */
export function have(...tools) {
  return tools.every((tool) => isInstalled(tool));
}

/** @returns {{ versions: Record<string, string>, missing: string[] }} */
export function peerFacts() {
  /** @type {Record<string, string>} */
  const versions = {};
  /** @type {string[]} */
  const missing = [];
  for (const [tool, args] of Object.entries(VERSION_OF)) {
    if (!isInstalled(tool)) missing.push(tool);
    // Some of them end with an error after printing it.
    else versions[tool] = versionIn(run(shell('"$@" 2>&1 || :', tool, ...args)));
  }
  return { versions, missing };
}

/** @param {string} text may hold other numbers, but none with dots before the version's */
function versionIn(text) {
  return /\d+(\.\d+)+/.exec(text)?.[0] ?? /\d+/.exec(text)?.[0] ?? '?';
}

/**
 * @param {string} source
 * @param {string} file
 * @returns {Command}
 */
export function tarZstd(source, file) {
  return { ...shell('tar c . | zstd -q > "$1"', file), cwd: source };
}

/**
 * @param {string} file as {@link tarZstd} makes it
 * @param {number} entries files, directories and symlinks that have to be in it
 */
function verifyTarZstd(file, entries) {
  const found = Number(run(shell('zstd -dcq "$1" | tar t | wc -l', file)));
  if (found !== entries)
    throw new VerificationError(`${file} has ${found} entries and has to have ${entries}`);
}

/**
 * The corpus through `tar | zstd`, or nobody where one of them is missing.
 * @param {import('./context.mjs').Context} context
 * @returns {import('./alternate.mjs').Entry[]}
 */
export function tarZstdEntry(context) {
  if (!have('tar', 'zstd')) return [];
  const { path, files, symlinks, directories } = context.corpus();
  const file = join(context.fresh('tar'), 'tree.tar.zst');
  const verify = () => verifyTarZstd(file, files + symlinks + directories + 1);
  return [{ name: TAR_ZSTD, command: tarZstd(path, file), verify }];
}

/**
 * Git with its directory apart from the tree, so that the tree is the same for all contestants.
 * @param {string} gitDirectory
 * @param {string} tree
 */
export function git(gitDirectory, tree) {
  /** @param {string[]} args */
  const command = (...args) => ({
    argv: ['git', `--git-dir=${gitDirectory}`, `--work-tree=${tree}`, ...args],
    cwd: tree,
  });
  // A tree may hold .gitignore files of its own; the peers of git take everything.
  const add = command('add', '--force', '.');
  return {
    add,
    status: command('status'),
    init: () => run(command('-c', 'init.defaultBranch=main', 'init', '--quiet')),
    /** Also leaves git with everything cached that it caches. */
    commit() {
      run(add);
      const identity = ['-c', 'user.name=bench', '-c', 'user.email=bench@example.invalid'];
      run(command(...identity, 'commit', '--quiet', '--message', 'corpus'));
      verifyClean(run(command('status')));
    },
    /** @param {number} files files and symlinks that have to be in the index */
    verifyAdded(files) {
      const found = run(command('ls-files', '-z')).split('\0').length - 1;
      if (found !== files) throw new VerificationError(`git added ${found} files and has to add ${files}`);
    },
  };
}

/** @param {string} status */
export function verifyClean(status) {
  if (!status.includes('nothing to commit, working tree clean'))
    throw new VerificationError(`git status:\n${status}`);
}

/**
 * @param {string} status
 * @param {string} path
 */
export function verifyModified(status, path) {
  const changed = status.split('\n').filter((line) => /^\t/.test(line));
  if (changed.length !== 1 || !changed[0].endsWith(`modified:   ${path}`))
    throw new VerificationError(`git status:\n${status}`);
}

/**
 * A program that keeps trees in a repository.
 * @typedef {object} Archiver
 * @property {Tool} name
 * @property {(state: string) => void} create an empty repository, and whatever else it keeps, in a new directory
 * @property {(state: string, source: string, label: string) => Command} save
 * @property {(state: string, label: string, target: string) => Command} restore into a new directory
 * @property {string} repository what of `state` is the repository
 */

/** @type {Archiver[]} */
const ARCHIVERS = [
  {
    name: 'restic',
    repository: 'repository',
    create: (state) => void run(resticCommand(state, 'init')),
    save: (state, source, label) => ({
      ...resticCommand(state, 'backup', '--quiet', '--tag', label, '.'),
      cwd: source,
    }),
    restore: (state, label, target) =>
      resticCommand(state, 'restore', 'latest', '--tag', label, '--quiet', '--target', target),
  },
  {
    name: 'borg',
    repository: 'repository',
    create: (state) => void run(borg(state, 'init', '--encryption', 'none', join(state, 'repository'))),
    save: (state, source, label) => ({
      ...borg(state, 'create', `${join(state, 'repository')}::${label}`, '.'),
      cwd: source,
    }),
    restore(state, label, target) {
      mkdirSync(target);
      return { ...borg(state, 'extract', `${join(state, 'repository')}::${label}`), cwd: target };
    },
  },
  {
    name: 'casync',
    repository: '.',
    create: () => {},
    save: (state, source, label) => ({
      argv: ['casync', 'make', `--store=${join(state, 'store')}`, join(state, `${label}.caidx`), source],
    }),
    restore: (state, label, target) => ({
      argv: ['casync', 'extract', `--store=${join(state, 'store')}`, join(state, `${label}.caidx`), target],
    }),
  },
];

/**
 * @param {Tool} wanted
 * @returns {Archiver}
 */
export function archiver(wanted) {
  const found = ARCHIVERS.find(({ name }) => name === wanted);
  if (!found) throw new Error(`${wanted} keeps no trees`);
  return found;
}

/** Those that are installed. */
export function archivers() {
  return ARCHIVERS.filter(({ name }) => have(name));
}

/**
 * @param {string} state
 * @param {string[]} args
 * @returns {Command}
 */
export function resticCommand(state, ...args) {
  return {
    argv: ['restic', ...args],
    env: {
      RESTIC_REPOSITORY: join(state, 'repository'),
      RESTIC_PASSWORD: 'bench',
      RESTIC_CACHE_DIR: join(state, 'cache'),
    },
  };
}

/**
 * @param {string} state
 * @param {string[]} args
 * @returns {Command}
 */
function borg(state, ...args) {
  return {
    argv: ['borg', ...args],
    env: { BORG_BASE_DIR: state, BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes' },
  };
}
