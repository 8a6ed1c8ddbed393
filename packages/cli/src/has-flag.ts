/** Whether a command line has a flag that every command takes. What follows `--` is not for the command. */
export function hasFlag(args: readonly string[], flag: '--json' | '--offline'): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end < 0 ? args.length : end).includes(flag);
}
