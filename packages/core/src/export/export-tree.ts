import fs from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { fromSystemError, LazytreeError } from '../errors.js';
import { formatLink, type Link } from '../format/link.js';
import { nameFromBytes, toFsPath } from '../format/name.js';
import type { BlockSource } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { rootEntry } from '../tree/path.js';
import { applyTree } from './apply-tree.js';
import type { ExportOptions, ExportResult } from './options.js';
import { populate } from './populate.js';

const PARTIAL = '.lazytree-partial-';

/**
 * Writes a tree to a directory: content, executable bits, symlinks, empty directories, and metadata where the
 * tree has it. Nothing outside `target` is ever written, and nothing there is followed. The directory appears,
 * or an empty one fills, when everything is written; an interrupted export leaves only a hidden staging
 * directory, which the next export to the same place clears away.
 *
 * @throws LazytreeError NOT_EMPTY, NOT_FOUND (parent directory), BLOCK_MISSING, CORRUPT, NO_SPACE, REFUSED
 */
export async function exportTree(
  store: BlockSource,
  root: Link,
  target: string,
  options: ExportOptions = {},
): Promise<ExportResult> {
  const { existing = 'refuse' } = options;
  const entry = await rootEntry(store, root, options);
  if (entry.kind !== 'directory') throw new LazytreeError('USAGE', `${formatLink(root)} is not a directory`);
  const lease = 'lease' in store ? (store as LocalStore).lease([root]) : undefined;
  try {
    const directory = realTarget(target);
    refuseStore(store, directory);
    const state = await prepareTarget(directory, root);
    if (state === 'filled' && existing === 'refuse') {
      throw new LazytreeError('NOT_EMPTY', `'${target}' is not empty`, {
        hint: 'use --update to make it equal to the tree, or --force to write over it',
      });
    }
    if (state === 'filled' || state === 'resumed') {
      const remove = state === 'filled' && existing === 'update';
      return await applyTree(store, root, directory, { ...options, remove });
    }
    return await exportFresh(store, root, directory, state, options);
  } finally {
    lease?.release();
  }
}

/** The target's path with symlinks that the user named resolved. */
function realTarget(target: string): string {
  const directory = resolve(target);
  return fs.existsSync(directory) ? fs.realpathSync(directory) : directory;
}

/** An update would delete the store that it reads from. */
function refuseStore(store: BlockSource, directory: string): void {
  const home = 'directory' in store ? (store as LocalStore).directory : undefined;
  if (
    home === undefined ||
    !(`${home}/`.startsWith(`${directory}/`) || `${directory}/`.startsWith(`${home}/`))
  )
    return;
  throw new LazytreeError('REFUSED', `'${directory}' holds the store, or lies in it`, {
    hint: 'export elsewhere',
  });
}

type TargetState = 'absent' | 'empty' | 'filled' | 'resumed';

/** Looks at the target, and clears away what an interrupted export has left of its staging directory. */
async function prepareTarget(directory: string, root: Link): Promise<TargetState> {
  try {
    await rm(siblingStaging(directory), { recursive: true, force: true });
    const stat = fs.lstatSync(directory, { throwIfNoEntry: false });
    if (!stat) {
      if (!fs.statSync(dirname(directory), { throwIfNoEntry: false })?.isDirectory()) {
        throw new LazytreeError('NOT_FOUND', `there is no directory '${dirname(directory)}' to export to`);
      }
      return 'absent';
    }
    if (!fs.statSync(directory).isDirectory()) {
      throw new LazytreeError('USAGE', `'${directory}' is not a directory`);
    }
    const names = fs.readdirSync(directory);
    const partial = names.filter((name) => name.startsWith(PARTIAL));
    for (const name of partial) await rm(join(directory, name), { recursive: true, force: true });
    if (names.length === partial.length) return 'empty';
    return partial.includes(PARTIAL + formatLink(root)) ? 'resumed' : 'filled';
  } catch (error) {
    throw fromSystemError(error, `exporting to '${directory}'`);
  }
}

function siblingStaging(directory: string): string {
  return join(dirname(directory), `.${basename(directory).slice(0, 100)}${PARTIAL}staging`);
}

async function exportFresh(
  store: BlockSource,
  root: Link,
  directory: string,
  state: 'absent' | 'empty',
  options: ExportOptions,
): Promise<ExportResult> {
  const staging =
    state === 'absent' ? siblingStaging(directory) : join(directory, PARTIAL + formatLink(root));
  try {
    fs.mkdirSync(staging, { mode: 0o700 });
    const publish = () => {
      if (state === 'empty') return moveUp(staging, directory);
      fs.chmodSync(staging, 0o777 & ~process.umask());
      fs.renameSync(staging, directory);
    };
    return await populate(store, root, staging, { ...options, publish });
  } catch (error) {
    await rm(staging, { recursive: true, force: true });
    throw fromSystemError(error, `exporting to '${directory}'`);
  }
}

/** Moves everything in `staging` to the directory that it is in, then removes it. */
function moveUp(staging: string, directory: string): void {
  for (const bytes of fs.readdirSync(staging, { encoding: 'buffer' })) {
    const name = nameFromBytes(bytes);
    const to = toFsPath(`${directory}/${name}`);
    if (fs.lstatSync(to, { throwIfNoEntry: false })) {
      throw new LazytreeError('FAILED', `'${directory}/${name}' appeared during the export`);
    }
    fs.renameSync(toFsPath(`${staging}/${name}`), to);
  }
  fs.rmdirSync(staging);
}
