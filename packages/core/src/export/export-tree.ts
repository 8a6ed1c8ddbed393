import fs from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { errnoOf, fromSystemError, LazytreeError } from '../errors.js';
import { formatLink, type Link } from '../format/link.js';
import { toFsPath } from '../format/name.js';
import { realPath } from '../import/real-path.js';
import type { BlockSource } from '../store/block-store.js';
import type { LocalStore } from '../store/local.js';
import { rootEntry } from '../tree/path.js';
import { applyTree } from './apply-tree.js';
import type { ExportOptions, ExportResult } from './options.js';
import { populate } from './populate.js';
import {
  beginMoving,
  listTarget,
  makeStagingBeside,
  makeStagingInside,
  moveUp,
  publishBeside,
  removeAll,
  stagingBeside,
} from './staging.js';

/**
 * Writes a tree to a directory: content, executable bits, symlinks, empty directories, and metadata where the
 * tree has it. Nothing outside `target` is ever written, and nothing there is followed. The directory appears,
 * or an empty one fills, when everything is written; an interrupted export leaves only a hidden staging
 * directory, which the next export to the same place clears away.
 *
 * @param target may hold escaped bytes, like any name of a tree
 * @throws LazytreeError NOT_EMPTY, NOT_FOUND (parent directory), BLOCK_MISSING, CORRUPT, NO_SPACE, REFUSED
 */
export async function exportTree(
  store: BlockSource,
  root: Link,
  target: string,
  options: ExportOptions = {},
): Promise<ExportResult> {
  const { existing = 'refuse' } = options;
  const lease = 'lease' in store ? (store as LocalStore).lease([root]) : undefined;
  try {
    const entry = await rootEntry(store, root, options);
    if (entry.kind !== 'directory') {
      throw new LazytreeError('USAGE', `${formatLink(root)} is not a directory`);
    }
    const directory = realTarget(target);
    refuseStore(store, directory);
    const { state, leftovers } = lookAtTarget(directory, root);
    if (state === 'filled' && existing === 'refuse') {
      throw new LazytreeError('NOT_EMPTY', `'${target}' is not empty`, {
        hint: 'use --update to make it equal to the tree, or --force to write over it',
      });
    }
    await clearAway(directory, leftovers);
    if (state === 'filled' || state === 'resumed') {
      return await applyTree(store, root, directory, { ...options, remove: existing === 'update' });
    }
    return await exportFresh(store, root, directory, state, options);
  } finally {
    options.survey?.stop();
    lease?.release();
  }
}

/** The target's path with symlinks resolved, of its parent at least. */
function realTarget(target: string): string {
  const directory = resolve(target);
  const real = realPathOf(directory);
  if (real !== undefined) return real;
  // A symlink that leads nowhere stays one, and is no directory.
  const parent = realPathOf(dirname(directory));
  return parent === undefined ? directory : join(parent, basename(directory));
}

function realPathOf(path: string): string | undefined {
  try {
    return realPath(path);
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw fromSystemError(error, `exporting to '${path}'`);
  }
}

/** An update would delete the store that it reads from. */
function refuseStore(store: BlockSource, directory: string): void {
  if (!('directory' in store)) return;
  const home = resolve((store as LocalStore).directory);
  const real = realPathOf(home) ?? home;
  if (!isWithin(real, directory) && !isWithin(directory, real)) return;
  throw new LazytreeError('REFUSED', `'${directory}' holds the store, or lies in it`, {
    hint: 'export elsewhere',
  });
}

function isWithin(path: string, directory: string): boolean {
  const way = relative(directory, path);
  return way !== '..' && !way.startsWith('../');
}

interface Target {
  /** `resumed`: an interrupted export of the same root was moving what it wrote to its place. */
  state: 'absent' | 'empty' | 'filled' | 'resumed';
  /** What interrupted exports have left in it. */
  leftovers: string[];
}

function lookAtTarget(directory: string, root: Link): Target {
  try {
    const stat = fs.lstatSync(toFsPath(directory), { throwIfNoEntry: false });
    if (!stat) {
      const parent = dirname(directory);
      if (!fs.statSync(toFsPath(parent), { throwIfNoEntry: false })?.isDirectory()) {
        throw new LazytreeError('NOT_FOUND', `there is no directory '${parent}' to export to`);
      }
      return { state: 'absent', leftovers: [] };
    }
    if (!stat.isDirectory()) throw new LazytreeError('USAGE', `'${directory}' is not a directory`);
    const { leftovers, moving, empty } = listTarget(directory);
    const state = empty ? 'empty' : moving.includes(formatLink(root)) ? 'resumed' : 'filled';
    return { state, leftovers };
  } catch (error) {
    throw fromSystemError(error, `exporting to '${directory}'`);
  }
}

async function clearAway(directory: string, leftovers: readonly string[]): Promise<void> {
  try {
    for (const path of [stagingBeside(directory), ...leftovers]) await removeAll(path);
  } catch (error) {
    throw fromSystemError(error, `exporting to '${directory}'`);
  }
}

async function exportFresh(
  store: BlockSource,
  root: Link,
  directory: string,
  state: 'absent' | 'empty',
  options: ExportOptions,
): Promise<ExportResult> {
  let staging: string | undefined;
  try {
    const written = state === 'absent' ? makeStagingBeside(directory) : makeStagingInside(directory);
    staging = written;
    const publish = () => {
      if (state === 'absent') return publishBeside(written, directory);
      staging = beginMoving(written, directory, root);
      moveUp(staging, directory);
    };
    return await populate(store, root, written, { ...options, publish });
  } catch (error) {
    // Why the export failed is worth more than why this did; the next export clears it away.
    if (staging !== undefined) await removeAll(staging).catch(() => undefined);
    throw fromSystemError(error, `exporting to '${directory}'`);
  }
}
