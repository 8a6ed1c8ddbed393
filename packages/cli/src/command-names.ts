/** In the order of the help. Apart from what loads the commands: a caller of a daemon needs no more than their names. */
export const COMMAND_NAMES = [
  'import',
  'export',
  'ls',
  'cat',
  'stat',
  'diff',
  'log',
  'mount',
  'unmount',
  'mounts',
  'workspace',
  'prefetch',
  'cluster',
  'resolve',
  'compose',
  'why',
  'save',
  'load',
  'ref',
  'pin',
  'remote',
  'push',
  'pull',
  'gc',
  'verify',
  'status',
  'doctor',
  'daemon',
] as const;

export type CommandName = (typeof COMMAND_NAMES)[number];

/** Commands, and actions of commands, that run in the caller's process, also when a daemon runs. */
export const HERE: ReadonlySet<string> = new Set([
  'daemon',
  'doctor',
  'workspace exec',
  'workspace run-scripts',
]);

/** Those that a daemon carries out and nobody else: it is started when none runs. */
export const DAEMONS: ReadonlySet<string> = new Set([
  'mount',
  'unmount',
  'mounts',
  'prefetch',
  'pull',
  'cluster init',
  'cluster invite',
  'cluster join',
  'cluster leave',
  'cluster peers',
  'workspace create',
  'workspace list',
  'workspace save',
  'workspace fork',
  'workspace restore',
  'workspace remove',
]);
