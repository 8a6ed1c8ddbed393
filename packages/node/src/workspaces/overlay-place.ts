import { type MarkNamespace, seesTrusted } from '@lazytree/core';
import { type MountInfo, readMountInfo } from '../fuse/device/mount-info.js';
import { type MountCall, mount } from '../fuse/device/system-calls.js';
import { unmount } from '../fuse/device/unmount.js';
import type { Keeper } from '../keeper/keeper.js';

/** A process whose namespaces one has to enter to see what is mounted in them. */
export interface Holder {
  pid: number;
  /** What the kernel calls its mount namespace, as in `mnt:[4026532000]`. */
  namespace: string;
}

/** Where overlays are mounted, and by whom. */
export interface OverlayPlace {
  /** Attributes in which overlayfs keeps what it has to know of an upper layer. */
  readonly marks: MarkNamespace;
  /** Whether what an earlier daemon has mounted there still is, if that is. */
  readonly outlived: boolean;
  /** @throws SystemCallError; LazytreeError UNSUPPORTED where there can be no such place */
  mount(call: MountCall): Promise<void>;
  /** @throws SystemCallError; LazytreeError */
  unmount(target: string, options: { lazy: boolean }): Promise<void>;
  mounts(): Promise<MountInfo[]>;
  /** To be told when what overlays lie over has been mounted anew: the old ones are of no use any more. */
  renew(): Promise<void>;
  /** Absent where everybody sees the overlays. */
  holder(): Holder | undefined;
  close(): Promise<void>;
}

export interface OverlayPlaceOptions {
  keeper: Keeper;
  /** Told that all overlays are gone though nobody wanted it. */
  onLost(): void;
}

/** The daemon's own mount namespace. */
export function ownNamespace(): OverlayPlace {
  return {
    marks: seesTrusted() ? 'trusted' : 'user',
    outlived: true,
    mount,
    unmount,
    mounts: () => readMountInfo(),
    async renew() {},
    holder: () => undefined,
    async close() {},
  };
}
