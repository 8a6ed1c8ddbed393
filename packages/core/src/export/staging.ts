import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, LazytreeError } from '../errors.js';
import { formatLink, type Link } from '../format/link.js';
import { nameFromBytes, nameToBytes, toFsPath } from '../format/name.js';

/**
 * Where a tree is written before it is published. A new directory is staged beside its target, under a name
 * made of the target's path: whoever exports to that path again finds what an interrupted export left.
 *
 * An empty directory that is there already is staged inside, where names are the user's or a tree's. So that
 * nothing of theirs is ever taken for ours, the name of such a staging directory holds the directory's own inode
 * number: names in trees are older than the directories that are made of them, and a copy of a staging
 * directory, or a tree that was imported with one in it, gets another inode. On a file system whose inode
 * numbers do not last, a leftover is no longer recognised, which makes the target one that is not empty.
 */
const PARTIAL = '.lazytree-partial-';
/** A staging directory that is complete, while what is in it moves up; followed by the root. */
const MOVING = '.lazytree-moving-';
const NEW = /^\.lazytree-partial-new-[0-9a-f]{16}$/;
const OWN = /^\.lazytree-(?:partial|moving-([a-z0-9]+))-([0-9]+)$/;

export function stagingBeside(directory: string): string {
  const hash = createHash('sha256').update(nameToBytes(directory)).digest('hex').slice(0, 32);
  const parent = dirname(directory);
  return `${parent === '/' ? '' : parent}/${PARTIAL}${hash}`;
}

export function makeStagingBeside(directory: string): string {
  const staging = stagingBeside(directory);
  fs.mkdirSync(toFsPath(staging), { mode: 0o700 });
  return staging;
}

export function makeStagingInside(directory: string): string {
  const draft = `${directory}/${PARTIAL}new-${randomBytes(8).toString('hex')}`;
  fs.mkdirSync(toFsPath(draft), { mode: 0o700 });
  const staging = `${directory}/${PARTIAL}${inodeOf(draft)}`;
  fs.renameSync(toFsPath(draft), toFsPath(staging));
  return staging;
}

function inodeOf(path: string): string | undefined {
  const stat = fs.lstatSync(toFsPath(path), { bigint: true });
  return stat.isDirectory() ? stat.ino.toString() : undefined;
}

export interface Contents {
  /** Staging directories that an interrupted export left in the directory. */
  leftovers: string[];
  /** CIDs of the roots among them that were being moved up. */
  moving: string[];
  /** Whether there is nothing else. */
  empty: boolean;
}

export function listTarget(directory: string): Contents {
  const names = fs.readdirSync(toFsPath(directory), { encoding: 'buffer' }).map(nameFromBytes);
  const own = names.filter((name) => isOwn(directory, name));
  // One that had no time to get its name is an empty directory. Beside anything else, it is not worth a guess.
  const fresh = names.filter((name) => NEW.test(name) && isEmptyDirectory(`${directory}/${name}`));
  const empty = own.length + fresh.length === names.length;
  return {
    leftovers: (empty ? [...own, ...fresh] : own).map((name) => `${directory}/${name}`),
    moving: own.flatMap((name) => OWN.exec(name)?.[1] ?? []),
    empty,
  };
}

function isOwn(directory: string, name: string): boolean {
  const inode = OWN.exec(name)?.[2];
  return inode !== undefined && inode === inodeOf(`${directory}/${name}`);
}

function isEmptyDirectory(path: string): boolean {
  return inodeOf(path) !== undefined && fs.readdirSync(toFsPath(path)).length === 0;
}

/** Gives a tree staged beside `directory` its name. */
export function publishBeside(staging: string, directory: string): void {
  fs.chmodSync(toFsPath(staging), 0o777 & ~process.umask());
  fs.renameSync(toFsPath(staging), toFsPath(directory));
}

/** Moves a tree staged inside `directory` up. Returns the name that the staging directory has from then on. */
export function beginMoving(staging: string, directory: string, root: Link): string {
  const moving = `${directory}/${MOVING}${formatLink(root)}-${inodeOf(staging)}`;
  fs.renameSync(toFsPath(staging), toFsPath(moving));
  return moving;
}

/** Moves everything in `staging` to the directory that it is in, or nothing if something is in the way there. */
export function moveUp(staging: string, directory: string): void {
  const names = fs.readdirSync(toFsPath(staging), { encoding: 'buffer' }).map(nameFromBytes);
  for (const name of names) refuseTaken(`${directory}/${name}`);
  for (const name of names) {
    const to = `${directory}/${name}`;
    refuseTaken(to);
    move(toFsPath(`${staging}/${name}`), toFsPath(to));
  }
  fs.rmdirSync(toFsPath(staging));
}

function refuseTaken(path: string): void {
  if (!fs.lstatSync(toFsPath(path), { throwIfNoEntry: false })) return;
  throw new LazytreeError('FAILED', `'${path}' appeared during the export`);
}

/** A directory that its owner cannot write to cannot go to another parent either (rename(2)). */
function move(from: string | Buffer, to: string | Buffer): void {
  try {
    fs.renameSync(from, to);
  } catch (error) {
    const stat = fs.lstatSync(from);
    if (errnoOf(error) !== 'EACCES' || !stat.isDirectory() || stat.mode & 0o200) throw error;
    fs.chmodSync(from, (stat.mode & 0o7777) | 0o200);
    fs.renameSync(from, to);
    fs.chmodSync(to, stat.mode & 0o7777);
  }
}

/** Removes what is at `path`, if anything is, directories that their owner cannot write to included. */
export async function removeAll(path: string): Promise<void> {
  const options = { recursive: true, force: true };
  try {
    await rm(toFsPath(path), options);
  } catch (error) {
    if (errnoOf(error) !== 'EACCES') throw error;
    unlock(path);
    await rm(toFsPath(path), options);
  }
}

function unlock(path: string): void {
  const fsPath = toFsPath(path);
  const stat = fs.lstatSync(fsPath, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return;
  if ((stat.mode & 0o700) !== 0o700) fs.chmodSync(fsPath, (stat.mode & 0o7777) | 0o700);
  for (const bytes of fs.readdirSync(fsPath, { encoding: 'buffer' }))
    unlock(`${path}/${nameFromBytes(bytes)}`);
}
