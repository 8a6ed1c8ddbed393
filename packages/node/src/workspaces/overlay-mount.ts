import { mkdir } from 'node:fs/promises';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';
import { MountFlag, mount } from '../fuse/device/system-calls.js';
import type { Layer } from './workspace-record.js';

export interface OverlayOptions {
  /** The read-only tree below. */
  lower: string;
  layer: Layer;
  target: string;
}

/**
 * Mounts a writable view of `lower`, whose changes go to the layer (Linux Documentation/filesystems/overlayfs.rst).
 * A renamed directory is not copied, nor is the content of a file whose mode alone changes.
 *
 * @throws LazytreeError UNSUPPORTED where there is no overlayfs, or the home's file system cannot carry a layer
 */
export async function mountOverlay({ lower, layer, target }: OverlayOptions): Promise<void> {
  await makeLayer(layer);
  const options = [
    `lowerdir=${escapeOption(lower)}`,
    `upperdir=${escapeOption(layer.upper)}`,
    `workdir=${escapeOption(layer.work)}`,
    'redirect_dir=on',
    'metacopy=on',
    // One device, and inodes that readdir and stat agree on: ours have 52 bits, which leaves room for the layer.
    'xino=on',
  ];
  try {
    await mount({
      source: 'lazytree',
      target,
      type: 'overlay',
      flags: MountFlag.NODEV,
      data: options.join(','),
    });
  } catch (error) {
    throw explain(error, { target, layer });
  }
}

export async function makeLayer({ upper, work }: Layer): Promise<void> {
  await mkdir(upper, { recursive: true, mode: 0o755 });
  await mkdir(work, { recursive: true, mode: 0o700 });
}

/** Commas end an option, colons a lower directory. */
function escapeOption(path: string): string {
  return path.replace(/[\\,:]/g, '\\$&');
}

function explain(error: unknown, { target, layer }: Pick<OverlayOptions, 'target' | 'layer'>): Error {
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
      return new LazytreeError(
        'UNSUPPORTED',
        `the file system of ${layer.upper} cannot carry the changes of a workspace`,
        {
          cause: error,
          hint: 'set LAZYTREE_HOME to a directory on ext4, xfs, btrfs or tmpfs, or use `lazytree export`',
        },
      );
    default:
      return fromSystemError(error, `mounting a workspace on '${target}'`);
  }
}
