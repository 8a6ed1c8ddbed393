import { type ErrorCode, fromSystemError, LazytreeError } from '../errors.js';

/** What is left of an error between threads: enough to raise it again. */
interface PlainError {
  known: boolean;
  code: string | undefined;
  message: string;
  hint: string | undefined;
}

/** Runs a job; its error becomes one that survives the way to another thread. */
export async function plainError<T>(job: () => T | Promise<T>): Promise<T> {
  try {
    return await job();
  } catch (error) {
    const { code, message, hint } = error as { code?: string; message: string; hint?: string };
    throw { known: error instanceof LazytreeError, code, message, hint } satisfies PlainError;
  }
}

/** Makes an error of what {@link plainError} made of one. */
export async function raiseAgain<T>(result: Promise<T>, doing: string): Promise<T> {
  try {
    return await result;
  } catch (error) {
    if (error instanceof Error) throw fromSystemError(error, doing);
    const { known, code, message, hint } = error as PlainError;
    if (known) throw new LazytreeError(code as ErrorCode, message, hint === undefined ? {} : { hint });
    throw fromSystemError(Object.assign(new Error(message), { code }), doing);
  }
}
