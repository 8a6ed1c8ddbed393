import fs from 'node:fs';
import { join } from 'node:path';
import { LazytreeError } from '@lazytree/core/errors';

/** Bytes of a socket's path that every system takes: `sun_path` has 108 on Linux and 104 elsewhere, with a NUL. */
const LONGEST = 103;

export interface SocketAddress {
  /** What `connect` and `listen` take. */
  path: string;
  /** To be called when it has been used. */
  release(): void;
}

/**
 * A socket in `directory`, however long the directory's path is: where it is too long for a socket's address, the
 * directory is opened, and the kernel leads from the open file to the directory.
 */
export function socketAddress(directory: string, name: string): SocketAddress {
  const path = join(directory, name);
  if (Buffer.byteLength(path) <= LONGEST) return { path, release: () => undefined };
  const fd = fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  const open = `/proc/self/fd/${fd}`;
  if (!fs.existsSync(open)) {
    fs.closeSync(fd);
    throw new LazytreeError('FAILED', `the path of the socket ${path} is too long`, {
      hint: `choose a LAZYTREE_HOME of at most ${LONGEST - name.length - 1} bytes`,
    });
  }
  return { path: `${open}/${name}`, release: () => fs.closeSync(fd) };
}
