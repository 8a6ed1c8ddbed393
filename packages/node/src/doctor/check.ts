/** What a look at one thing has found. */
export interface Check {
  /** What was looked at, for people and scripts. */
  name: string;
  /**
   * `ok`: it works. `unused`: it is not set up, or not needed here. `limited`: what needs it does not work, and all else
   * does. `failed`: nothing works without it.
   */
  status: 'ok' | 'unused' | 'limited' | 'failed';
  detail: string;
  /** What to do about it; when it is limited or has failed. */
  hint?: string;
}

/** Runs a look; what it throws is what is wrong. */
export async function look(
  name: string,
  severity: 'limited' | 'failed',
  task: () => Promise<Omit<Check, 'name'>>,
): Promise<Check> {
  try {
    return { name, ...(await task()) };
  } catch (error) {
    const { message, hint } = error as { message?: string; hint?: string };
    return { name, status: severity, detail: String(message ?? error), ...(hint ? { hint } : {}) };
  }
}
