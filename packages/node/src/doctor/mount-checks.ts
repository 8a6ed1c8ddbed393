import { closeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { mountFuse } from '../fuse/device/mount-fuse.js';
import { mayMount } from '../fuse/device/privilege.js';
import { unmount } from '../fuse/device/unmount.js';
import type { Keeper } from '../keeper/keeper.js';
import { chooseOverlayPlace } from '../workspaces/choose-overlay-place.js';
import { mountOverlay } from '../workspaces/overlay-mount.js';
import { howToAllow } from '../workspaces/user-namespace.js';
import type { Check } from './check.js';
import { runProgram } from './programs.js';
import { makeScratch } from './scratch.js';

type Found = Omit<Check, 'name'>;

/** Nothing outlives a look. */
const NO_KEEPER: Keeper = {
  keep: () => ({ drop() {} }),
  claim: () => undefined,
  settle() {},
  close() {},
};

/** Whether trees can be mounted; by mounting one that nobody serves, in a directory that nobody knows. */
export async function checkFuse(home: string): Promise<Found> {
  const scratch = await makeScratch(home);
  try {
    const target = join(scratch.directory, 'mount');
    await mkdir(target);
    // With its connection closed, nothing waits for an answer.
    closeSync(await mountFuse(target));
    await unmount(target, { lazy: true });
    const how = (await mayMount()) ? 'by mount(2)' : 'by fusermount3';
    return { status: 'ok', detail: `/dev/fuse mounts, ${how}` };
  } finally {
    await scratch.remove();
  }
}

export async function checkFusermount(): Promise<Found> {
  const version = await runProgram('fusermount3', ['--version']);
  if (version !== undefined) return { status: 'ok', detail: version };
  if (await mayMount()) return { status: 'unused', detail: 'not here, and not needed by who may mount' };
  return {
    status: 'limited',
    detail: 'not here, and mounts without root need it',
    hint: 'install the package fuse3, or use `lazytree export`',
  };
}

/** Whether there can be user namespaces, where the workspaces of those who may not mount are. */
export async function checkUserNamespaces(): Promise<Found> {
  const isNeeded = !(await mayMount());
  try {
    const program = await runProgram('unshare', ['--user', '--map-current-user', '--mount', 'true']);
    if (program !== undefined) return { status: 'ok', detail: 'can be made' };
    if (isNeeded) {
      return { status: 'limited', detail: 'unshare is not here', hint: 'install the package util-linux' };
    }
  } catch (error) {
    if (isNeeded) {
      const detail = (error as Error).message.split('\n')[1] || 'cannot be made';
      return { status: 'limited', detail, hint: await howToAllow() };
    }
  }
  return { status: 'unused', detail: 'cannot be made, and are not needed by who may mount' };
}

/** Whether workspaces can be made; by mounting an overlay where theirs are, and with their options. */
export async function checkOverlay(home: string): Promise<Found> {
  const scratch = await makeScratch(home);
  const place = await chooseOverlayPlace({ keeper: NO_KEEPER, onLost() {} });
  const inside = (name: string) => join(scratch.directory, name);
  try {
    const [lower, target] = ['lower', 'workspace'].map(inside);
    await Promise.all([mkdir(lower), mkdir(target)]);
    await mountOverlay({ lower, target, layer: { upper: inside('upper'), work: inside('work') }, place });
    await place.unmount(target, { lazy: true });
    return {
      status: 'ok',
      detail: `mounts, ${(await mayMount()) ? 'for all to see' : 'in a user namespace: `lazytree workspace exec` enters it'}`,
    };
  } finally {
    await place.close();
    await scratch.remove();
  }
}
