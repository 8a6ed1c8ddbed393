import type { MountCall } from '../fuse/device/system-calls.js';

/** To the process that holds a namespace. */
export type ToHolder = { id: string } & Wish;

export type Wish =
  | { mount: MountCall }
  | { unmount: { target: string; lazy: boolean } }
  /** To say which namespace it holds. */
  | { who: true };

/** From it: what became of a request. */
export interface FromHolder {
  id: string;
  namespace?: string;
  error?: { syscall: string; errno: number };
}

/** The descriptor of its end of the channel. */
export const CHANNEL = 3;
