import { readlinkSync } from 'node:fs';
import { nameFromBytes } from '@lazytree/core';

/** The current directory, exact also where it is not UTF-8; undefined when it is gone. */
export function callersDirectory(): string | undefined {
  let directory: string;
  try {
    directory = process.cwd();
  } catch {
    return undefined;
  }
  if (!directory.includes('\ufffd')) return directory;
  try {
    return nameFromBytes(readlinkSync('/proc/self/cwd', { encoding: 'buffer' }));
  } catch {
    // No /proc here: what Node made of it is the best there is.
    return directory;
  }
}
