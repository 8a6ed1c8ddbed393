import type { Command } from './command.js';
import type { CommandName } from './command-names.js';

/** Commands by name, in the order of the help; each is loaded only when it is used. */
export const COMMANDS: Record<CommandName, () => Promise<{ command: Command }>> = {
  import: () => import('./commands/import.js'),
  export: () => import('./commands/export.js'),
  ls: () => import('./commands/ls.js'),
  cat: () => import('./commands/cat.js'),
  stat: () => import('./commands/stat.js'),
  diff: () => import('./commands/diff.js'),
  log: () => import('./commands/log.js'),
  mount: () => import('./commands/mount.js'),
  unmount: () => import('./commands/unmount.js'),
  mounts: () => import('./commands/mounts.js'),
  workspace: () => import('./commands/workspace.js'),
  prefetch: () => import('./commands/prefetch.js'),
  cluster: () => import('./commands/cluster.js'),
  resolve: () => import('./commands/resolve.js'),
  compose: () => import('./commands/compose.js'),
  why: () => import('./commands/why.js'),
  save: () => import('./commands/save.js'),
  load: () => import('./commands/load.js'),
  ref: () => import('./commands/ref.js'),
  pin: () => import('./commands/pin.js'),
  remote: () => import('./commands/remote.js'),
  push: () => import('./commands/push.js'),
  pull: () => import('./commands/pull.js'),
  gc: () => import('./commands/gc.js'),
  verify: () => import('./commands/verify.js'),
  status: () => import('./commands/status.js'),
  doctor: () => import('./commands/doctor.js'),
  daemon: () => import('./commands/daemon.js'),
};
