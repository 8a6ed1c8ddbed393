import { existsSync } from 'node:fs';
import { realpath, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { LazytreeError, openLocalStore } from '@lazytree/core';
import { readMountInfo } from '../fuse/device/mount-info.js';
import { storeDirectory } from '../home-directory.js';
import type { Check } from './check.js';
import { makeScratch, nearestDirectory } from './scratch.js';

type Found = Omit<Check, 'name'>;

const ANOTHER_HOME = 'set LAZYTREE_HOME to a directory that is yours';

/** Whether the home can be written to, or made; by doing it. */
export async function checkHome(home: string): Promise<Found> {
  const place = nearestDirectory(home);
  if (!(await stat(place)).isDirectory()) {
    return { status: 'failed', detail: `'${place}' is not a directory`, hint: ANOTHER_HOME };
  }
  try {
    await (await makeScratch(home)).remove();
  } catch (error) {
    return { status: 'failed', detail: (error as Error).message, hint: ANOTHER_HOME };
  }
  const where = `on ${await fileSystemOf(place)}`;
  if (place !== home) return { status: 'ok', detail: `${home}, ${where}, is made with the first import` };
  return { status: 'ok', detail: `${home}, ${where}, can be written to` };
}

async function fileSystemOf(directory: string): Promise<string> {
  const path = await realpath(directory);
  const mounts = (await readMountInfo()).filter(
    ({ target }) => target === '/' || path === target || path.startsWith(`${target}/`),
  );
  // Of those on one place, the last is seen.
  return mounts.reduce((best, mount) => (mount.target.length >= best.target.length ? mount : best)).type;
}

/** A segment of the store has to fit, and what is rewritten beside it. */
const LITTLE_BYTES = 512 << 20;

export async function checkSpace(home: string): Promise<Found> {
  const { bavail, bsize, files, ffree } = await statfs(nearestDirectory(home));
  const free = bavail * bsize;
  const detail = `${(free / 2 ** 30).toFixed(1)} GiB free`;
  const hint = 'run `lazytree gc`, make room, or set LAZYTREE_HOME to a directory on a larger file system';
  if (free < LITTLE_BYTES) return { status: 'limited', detail, hint };
  if (files > 0 && ffree === 0) return { status: 'limited', detail: `${detail}, but no inode is left`, hint };
  return { status: 'ok', detail };
}

/** Whether the store opens; by opening it, unless the daemon has. */
export async function checkStore(home: string, daemon: number | undefined): Promise<Found> {
  const directory = storeDirectory(home);
  if (!existsSync(join(directory, 'format'))) {
    return { status: 'unused', detail: `none yet: the first import makes ${directory}` };
  }
  if (daemon !== undefined)
    return { status: 'ok', detail: `format 1, opened by the daemon (process ${daemon})` };
  try {
    await (await openLocalStore(directory, { create: false })).close();
    return { status: 'ok', detail: 'format 1, opens' };
  } catch (error) {
    if (!(error instanceof LazytreeError) || error.code !== 'LOCKED') throw error;
    return {
      status: 'limited',
      detail: error.message,
      hint: error.hint ?? 'wait till that process has ended',
    };
  }
}
