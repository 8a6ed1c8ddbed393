import { readlinkSync } from 'node:fs';

/** The current directory, exact also where it is not UTF-8; undefined when it is gone. */
export async function exactDirectory(): Promise<string | undefined> {
  let directory: string;
  try {
    directory = process.cwd();
  } catch {
    return undefined;
  }
  if (!directory.includes('\ufffd')) return directory;
  const { nameFromBytes } = await import('@lazytree/core/names');
  try {
    return nameFromBytes(readlinkSync('/proc/self/cwd', { encoding: 'buffer' }));
  } catch {
    // No /proc here: what Node made of it is the best there is.
    return directory;
  }
}
