import fs from 'node:fs';
import { errnoOf, LazytreeError } from '@lazytree/core';
import { mountByFusermount } from './fusermount.js';
import { mayMount } from './privilege.js';
import { MountFlag, mount } from './system-calls.js';

const DEVICE = '/dev/fuse';

/** What a FUSE mount of ours is called in /proc/mounts. */
export const FUSE_TYPE = 'fuse.lazytree';

/**
 * Opens a FUSE connection and mounts it, read-only, on the directory `target`. The kernel begins to ask before this
 * returns: whoever gets the descriptor has to serve it before anyone touches the directory.
 *
 * @returns the descriptor
 * @throws LazytreeError UNSUPPORTED, with what to install
 */
export async function mountFuse(target: string): Promise<number> {
  return (await mayMount()) ? mountByCall(target) : mountByFusermount(target);
}

async function mountByCall(target: string): Promise<number> {
  const device = openDevice();
  try {
    await mount({
      source: 'lazytree',
      target,
      type: FUSE_TYPE,
      flags: MountFlag.RDONLY | MountFlag.NOSUID | MountFlag.NODEV,
      data: [
        `fd=${device}`,
        'rootmode=40000',
        `user_id=${process.getuid?.() ?? 0}`,
        `group_id=${process.getgid?.() ?? 0}`,
        'default_permissions',
        'allow_other',
      ].join(','),
    });
    return device;
  } catch (error) {
    fs.closeSync(device);
    throw new LazytreeError('FAILED', `mounting on '${target}': ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function openDevice(): number {
  try {
    return fs.openSync(DEVICE, 'r+');
  } catch (error) {
    const code = errnoOf(error);
    if (code !== 'ENOENT' && code !== 'ENODEV' && code !== 'EACCES' && code !== 'EPERM') throw error;
    throw new LazytreeError('UNSUPPORTED', `FUSE is not available: ${(error as Error).message}`, {
      cause: error,
      hint: "load it with `modprobe fuse` (in a container: start it with '--device /dev/fuse'), or use `lazytree export`",
    });
  }
}
