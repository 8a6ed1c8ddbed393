/** To the process that keeps descriptors; those that belong to a message come with it. */
export type ToKeeper =
  | { keep: string; about: unknown }
  | { drop: string }
  /** Nothing is to be kept any more. */
  | { end: true };

/** From it, to whoever has just called on it: everything that it keeps, one after another, and then that this was all. */
export type FromKeeper = { kept: string; about: unknown } | { all: true };

/** Descriptors that the process is started with: what others call on it by, and its connection to who started it. */
export const LISTENER = 3;
export const STARTER = 4;
