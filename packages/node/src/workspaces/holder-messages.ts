import type { MountCall } from '../fuse/device/system-calls.js';

/** To the process that holds a namespace. */
export type ToHolder = { id: number } & (
  | { mount: MountCall }
  | { unmount: { target: string; lazy: boolean } }
);

/** From it: that it is there, or what became of a request. */
export type FromHolder = { namespace: string } | { id: number; error?: { syscall: string; errno: number } };
