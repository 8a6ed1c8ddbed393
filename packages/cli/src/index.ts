export type { Action, Command, Context, Options, Output, Progress } from './command.js';
export { EXIT_CODES, ExitCode } from './command.js';
export { run } from './run.js';
