import { type ExecuteOptions, execute } from './execute.js';
import { ownHome } from './homes.js';
import { surveyAhead } from './survey-ahead.js';
import { tuneForLongWork } from './tune-for-long-work.js';

export interface RunHereOptions extends Pick<ExecuteOptions, 'caller' | 'perform'> {
  /** Whether it may be this process that carries the command line out. */
  lasts: boolean;
}

/** Whether a command line may be about a directory that is known from before. */
function mayBeSurveyed(args: readonly string[]): boolean {
  return args.includes('import') || args.includes('export');
}

/** Understands a command line, and carries it out with a home of this process's own where it is told to. Never throws. */
export async function runHere(
  args: readonly string[],
  { caller, lasts, perform }: RunHereOptions,
): Promise<number> {
  if (lasts) tuneForLongWork(args);
  const ahead = mayBeSurveyed(args) ? surveyAhead(args, caller) : undefined;
  try {
    const homes = { ...ownHome, commands: () => import('./serve-commands.js'), ahead };
    return await execute(args, { caller, homes, perform });
  } finally {
    ahead?.stop();
  }
}
