import { mkdir } from 'node:fs/promises';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';
import { isOurs, mountAt, SOURCE, unescapeOctal } from '../fuse/device/mount-info.js';
import { MountFlag, setXattr } from '../fuse/device/system-calls.js';
import type { OverlayPlace } from './overlay-place.js';
import { howToAllow } from './user-namespace.js';
import type { Layer } from './workspace-record.js';

export interface OverlayOptions {
  /** The read-only tree below. */
  lower: string;
  layer: Layer;
  target: string;
  place: OverlayPlace;
}

/**
 * Whoever may set `trusted` attributes has it that a renamed directory is not copied, nor the content of a file whose
 * mode alone changes. With `userxattr` the kernel refuses both, because users could forge what it would follow.
 */
const OPTIONS = { trusted: ['redirect_dir=on', 'metacopy=on'], user: ['userxattr'] };

/**
 * Mounts a writable view of `lower`, whose changes go to the layer (Linux Documentation/filesystems/overlayfs.rst).
 *
 * @throws LazytreeError UNSUPPORTED where there is no overlayfs, or the home's file system cannot carry a layer
 */
export async function mountOverlay({ lower, layer, target, place }: OverlayOptions): Promise<void> {
  await makeLayer(layer);
  // Without attributes it would be mounted, and fail where a directory takes the place of a removed one.
  await setXattr(layer.work, `${place.marks}.lazytree.layer`, Buffer.from('work')).catch((error: unknown) => {
    throw errnoOf(error) === 'EOPNOTSUPP' ? noLayer(layer, error) : error;
  });
  const options = [
    ...directoriesOf(lower, layer),
    ...OPTIONS[place.marks],
    // One device, and inodes that readdir and stat agree on: ours have 52 bits, which leaves room for the layer.
    'xino=on',
  ];
  try {
    await place.mount({
      source: SOURCE,
      target,
      type: 'overlay',
      flags: MountFlag.NODEV,
      data: options.join(','),
    });
  } catch (error) {
    throw await explain(error, { target, layer, place });
  }
}

/** Whether this overlay is mounted on `target`, the uppermost. Its layer is nobody else's. */
export async function isOverlaid({ lower, layer, target, place }: OverlayOptions): Promise<boolean> {
  const there = mountAt(await place.mounts(), target);
  if (there?.type !== 'overlay' || !isOurs(there)) return false;
  const shown = there.options.split(',').map(unescapeOctal);
  return directoriesOf(lower, layer).every((option) => shown.includes(option));
}

export async function makeLayer({ upper, work }: Layer): Promise<void> {
  await mkdir(upper, { recursive: true, mode: 0o755 });
  await mkdir(work, { recursive: true, mode: 0o700 });
}

function directoriesOf(lower: string, { upper, work }: Layer): string[] {
  const directories = { lowerdir: lower, upperdir: upper, workdir: work };
  return Object.entries(directories).map(([name, path]) => `${name}=${escapeOption(path)}`);
}

/** Commas end an option, colons a lower directory. */
function escapeOption(path: string): string {
  return path.replace(/[\\,:]/g, '\\$&');
}

async function explain(
  error: unknown,
  { target, layer, place }: Omit<OverlayOptions, 'lower'>,
): Promise<Error> {
  switch (errnoOf(error)) {
    case 'ENODEV':
      return new LazytreeError(
        'UNSUPPORTED',
        'this kernel has no overlayfs, which writable workspaces need',
        {
          cause: error,
          hint: 'load it with `modprobe overlay`, or use `lazytree export`',
        },
      );
    case 'EINVAL':
      return noLayer(layer, error);
    case 'EPERM':
    case 'EACCES':
      if (!place.holder()) break;
      return new LazytreeError('UNSUPPORTED', `nothing may be mounted in a user namespace here`, {
        cause: error,
        hint: `${await howToAllow()}, or use \`lazytree export\``,
      });
  }
  return fromSystemError(error, `mounting a workspace on '${target}'`);
}

function noLayer({ upper }: Layer, cause: unknown): LazytreeError {
  return new LazytreeError(
    'UNSUPPORTED',
    `the file system of ${upper} cannot carry the changes of a workspace`,
    {
      cause,
      hint: 'set LAZYTREE_HOME to a directory on ext4, xfs, btrfs or tmpfs, or use `lazytree export`',
    },
  );
}
