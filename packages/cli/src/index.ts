export type { Action, Command, Context, Options, Output } from './command.js';
export { EXIT_CODES, ExitCode } from './command.js';
export type { Progress } from './progress.js';
export { run } from './run.js';
