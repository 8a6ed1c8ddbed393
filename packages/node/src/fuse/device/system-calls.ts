import { createRequire } from 'node:module';
import { getSystemErrorMap } from 'node:util';
import { nameToBytes } from '@lazytree/core';

/**
 * System calls that node:fs lacks, through the C library. They run off the event loop: what they touch may be served
 * by this very process.
 */

/** <sys/mount.h> */
export const MountFlag = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  REMOUNT: 32,
  BIND: 4096,
  PRIVATE: 1 << 18,
} as const;

export const UnmountFlag = { DETACH: 2, NOFOLLOW: 8 } as const;

type Callback = (error: Error | null, result: number) => void;
interface CFunction {
  async(...args: [...unknown[], Callback]): void;
}
interface Koffi {
  load(path: string | null): { func(signature: string): CFunction };
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

async function call(name: string, signature: string, args: unknown[]): Promise<number> {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
  const library = koffi;
  let cFunction = functions.get(name);
  if (!cFunction) {
    cFunction = library.load(null).func(signature);
    functions.set(name, cFunction);
  }
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  cFunction.async(...args, (error: Error | null, result: number) => {
    if (error) reject(error);
    else if (result < 0) reject(new SystemCallError(name, library.errno()));
    else resolve(result);
  });
  return promise;
}

function cString(text: string): Buffer {
  return Buffer.concat([nameToBytes(text), Buffer.of(0)]);
}

export interface MountCall {
  source: string;
  target: string;
  type?: string;
  flags?: number;
  data?: string;
}

/** mount(2). @throws SystemCallError */
export async function mount({ source, target, type, flags = 0, data }: MountCall): Promise<void> {
  const text = (value: string | undefined) => (value === undefined ? null : cString(value));
  await call(
    'mount',
    'int mount(const void *source, const void *target, const void *type, unsigned long flags, const void *data)',
    [cString(source), cString(target), text(type), flags, text(data)],
  );
}

/** umount2(2), never following a symlink. @throws SystemCallError */
export async function unmount(target: string, flags = 0): Promise<void> {
  await call('umount2', 'int umount2(const void *target, int flags)', [
    cString(target),
    flags | UnmountFlag.NOFOLLOW,
  ]);
}
