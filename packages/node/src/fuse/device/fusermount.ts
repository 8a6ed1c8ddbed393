import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { readFile } from 'node:fs/promises';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { errnoOf, LazytreeError } from '@lazytree/core';
import { SystemCallError } from '../../c-library.js';
import { receiveDescriptor, socketPair } from '../../descriptor-socket.js';
import { mountAt, readMountInfo } from './mount-info.js';

/**
 * FUSE for those who may not mount: the set-user-ID program of libfuse (fusermount3(1), the older fusermount) opens
 * the device, mounts it, and sends the descriptor through the socket that _FUSE_COMMFD names.
 */

const PROGRAMS = ['fusermount3', 'fusermount'];
/** Descriptor that the program gets its end of the socket as. */
const SOCKET = 3;
const CONFIGURATION = '/etc/fuse.conf';

/**
 * Mounts a FUSE connection, read-only, on the directory `target`.
 *
 * @returns the descriptor of the connection
 * @throws LazytreeError UNSUPPORTED, with what to install
 */
export async function mountByFusermount(target: string): Promise<number> {
  const options = ['ro', 'nosuid', 'nodev', 'fsname=lazytree', 'subtype=lazytree', 'default_permissions'];
  if (await mayAllowOthers()) options.push('allow_other');
  const [ours, theirs] = socketPair();
  let ended: Ended;
  try {
    ended = await runFusermount(['-o', options.join(','), '--', target], theirs).finally(() =>
      fs.closeSync(theirs),
    );
    // What was sent is in the socket by now, and without it there is an end of file.
    const device = receiveDescriptor(ours);
    if (device !== undefined) return device;
  } finally {
    fs.closeSync(ours);
  }
  const { program, stderr } = ended;
  throw new LazytreeError('UNSUPPORTED', `mounting on '${target}': ${stderr || `${program} failed`}`, {
    hint: hintFor(stderr),
  });
}

/** @throws SystemCallError with the code that umount2(2) would give; LazytreeError UNSUPPORTED */
export async function unmountByFusermount(target: string, { lazy }: { lazy: boolean }): Promise<void> {
  const { status, stderr } = await runFusermount(['-u', ...(lazy ? ['-z'] : []), '--', target]);
  if (status === 0) return;
  const { EINVAL, EBUSY } = constants.errno;
  if (!mountAt(await readMountInfo(), target)) throw new SystemCallError('umount', EINVAL);
  if (/busy/i.test(stderr)) throw new SystemCallError('umount', EBUSY);
  throw new LazytreeError('REFUSED', `unmounting '${target}': ${stderr}`);
}

interface Ended {
  program: string;
  status: number | null;
  /** Its first line, without the name of the program. */
  stderr: string;
}

async function runFusermount(args: string[], socket?: number): Promise<Ended> {
  if (!args.every((arg) => arg.isWellFormed())) {
    throw new LazytreeError('UNSUPPORTED', 'the name of the mount point is not UTF-8', {
      hint: 'only root can mount there: choose another directory',
    });
  }
  for (const program of PROGRAMS) {
    try {
      return await run(program, args, socket);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
  throw new LazytreeError('UNSUPPORTED', 'mounting without root needs fusermount3, which is not here', {
    hint: 'install the package fuse3, or use `lazytree export`',
  });
}

async function run(program: string, args: string[], socket?: number): Promise<Ended> {
  const child = spawn(program, args, {
    cwd: '/',
    env: { ...process.env, LC_ALL: 'C', ...(socket === undefined ? {} : { _FUSE_COMMFD: String(SOCKET) }) },
    stdio: ['ignore', 'ignore', 'pipe', ...(socket === undefined ? [] : [socket])],
  });
  const closed = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  let text = '';
  (child.stderr as Readable).on('data', (part) => {
    text += part;
  });
  const status = await closed;
  return { program, status, stderr: text.split('\n')[0].replace(/^\S+: /, '') };
}

/** Without it, the files of the mount are for the user alone, and not even root may look. */
async function mayAllowOthers(): Promise<boolean> {
  const text = await readFile(CONFIGURATION, 'utf8').catch(() => '');
  return /^\s*user_allow_other\s*$/m.test(text);
}

function hintFor(stderr: string): string {
  if (/fuse.*(not found|No such)/i.test(stderr)) {
    return "load it with `modprobe fuse` (in a container: start it with '--device /dev/fuse'), or use `lazytree export`";
  }
  if (/dev\/fuse.*denied/i.test(stderr)) {
    return 'let users open it, with `chmod 666 /dev/fuse` as root, or use `lazytree export`';
  }
  if (/file ?system type .* forbidden/i.test(stderr)) {
    return 'choose a directory, or set LAZYTREE_HOME to one, on another file system, or use `lazytree export`';
  }
  if (/not permitted/i.test(stderr)) {
    return 'fusermount3 has to be set-user-ID root, and a container to allow mounts: see docs/mounts.md; or use `lazytree export`';
  }
  return 'see fusermount3(1), or use `lazytree export`';
}
