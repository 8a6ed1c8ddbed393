import { createRequire } from 'node:module';
import { getSystemErrorMap } from 'node:util';
import { nameToBytes } from '@lazytree/core';

/** Functions of the C library, through koffi, which is loaded with the first of them. */

type Callback = (error: Error | null, result: number) => void;
export interface CFunction {
  (...args: unknown[]): number;
  async(...args: [...unknown[], Callback]): void;
}
interface Koffi {
  load(path: string | null): { func(signature: string): CFunction };
  struct(name: string, members: Record<string, string>): unknown;
  sizeof(type: string): number;
  view(address: bigint, bytes: number): ArrayBuffer;
  errno(): number;
}

let koffi: Koffi | undefined;
const functions = new Map<string, CFunction>();

/** An error as node:fs would throw it. */
export class SystemCallError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;

  constructor(syscall: string, errno: number) {
    const [code, text] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, 'unknown error'];
    super(`${syscall}: ${text}`);
    this.name = 'SystemCallError';
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

export function library(): Koffi {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
  return koffi;
}

/** What went wrong in the last call from this thread. */
export function lastError(syscall: string): SystemCallError {
  return new SystemCallError(syscall, library().errno());
}

/** A function by its name and declaration. */
export function cFunction(name: string, declaration: string): CFunction {
  let found = functions.get(name);
  if (!found) {
    found = library().load(null).func(declaration);
    functions.set(name, found);
  }
  return found;
}

/** Calls a function from another thread. @throws SystemCallError */
export async function callAside(name: string, declaration: string, args: unknown[]): Promise<number> {
  const called = cFunction(name, declaration);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  called.async(...args, (error: Error | null, result: number) => {
    if (error) reject(error);
    else if (result < 0) reject(lastError(name));
    else resolve(result);
  });
  return promise;
}

/** A name or a path as C wants it. */
export function cString(text: string): Buffer {
  return Buffer.concat([nameToBytes(text), Buffer.of(0)]);
}
