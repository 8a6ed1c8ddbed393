import { realpathSync } from 'node:fs';
import { nameFromBytes, toFsPath } from '../format/name.js';

/** The native one: Node's own takes every path for UTF-8. */
export function realPath(path: string): string {
  return nameFromBytes(realpathSync.native(toFsPath(path), { encoding: 'buffer' }));
}
