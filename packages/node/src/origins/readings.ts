import { statSync } from 'node:fs';
import { toFsPath } from '@lazytree/core';
import type { OriginReading } from './driver.js';

/** All of a text, and then what is before each of its slashes from `begin` on, the longest first. */
export function atEachSlash(text: string, begin: number): OriginReading[] {
  const found: OriginReading[] = [{ reference: text, path: '' }];
  for (let at = text.lastIndexOf('/'); at > begin; at = text.lastIndexOf('/', at - 1))
    found.push({ reference: text.slice(0, at), path: text.slice(at + 1) });
  return found;
}

/** All of a path of this machine, or of one that is not of the right kind the longest beginning that is. */
export function atExisting(path: string, isRight: (path: string) => boolean): OriginReading[] {
  const all = { reference: path, path: '' };
  const found = isRight(path) ? undefined : atEachSlash(path, 0).find(({ reference }) => isRight(reference));
  return found ? [all, found] : [all];
}

export function isFileAt(path: string): boolean {
  return statSync(toFsPath(path), { throwIfNoEntry: false })?.isFile() === true;
}
