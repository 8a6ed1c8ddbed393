import { basename, dirname, resolve } from 'node:path';
import { formatLink, LazytreeError } from '@lazytree/core';
import type { OriginDriver } from '../driver.js';
import { isFileAt } from '../readings.js';

/** A directory of this machine as it is when it is wanted. */
export const driver: OriginDriver = {
  name: 'dir',
  summary: 'dir:PATH, a directory of this machine, imported when it is wanted',
  local: true,
  parse(text, { directory }) {
    if (text === '') throw new LazytreeError('USAGE', "'dir:' without a path", { hint: 'write dir:PATH' });
    if (text.includes('\0')) throw new LazytreeError('USAGE', 'a path with a NUL byte');
    return resolve(directory, text);
  },
  // The directory of a file, and no other one above what is not there: it would be imported as a whole.
  readings(text, { directory }) {
    const all = { reference: text, path: '' };
    if (!isFileAt(resolve(directory, text))) return [all];
    return [{ reference: resolve(directory, dirname(text)), path: basename(text) }];
  },
  async pin(reference) {
    return { reference };
  },
  async fetch({ reference, integrity: wanted }, context) {
    const { entry, notes } = await context.importDirectory(reference);
    const integrity = `cid:${formatLink(entry.link)}`;
    if (wanted !== undefined && wanted !== integrity) {
      throw new LazytreeError(
        'CORRUPT',
        `the directory ${reference} has changed: it is ${integrity}, not ${wanted}`,
        {
          hint: 'pin it anew, or import it once and use its root',
        },
      );
    }
    return { entry, integrity, notes };
  },
};
