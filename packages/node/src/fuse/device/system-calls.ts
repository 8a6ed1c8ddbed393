import { createRequire } from 'node:module';
import { getSystemErrorMap } from 'node:util';
import { nameToBytes } from '@lazytree/core';

/**
 * System calls that node:fs lacks, through the C library. Those that name a path run off the event loop: what they
 * touch may be served by this very process.
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
  (...args: unknown[]): number;
  async(...args: [...unknown[], Callback]): void;
}
interface Koffi {
  load(path: string | null): { func(signature: string): CFunction };
  struct(name: string, members: Record<string, string>): unknown;
  sizeof(type: string): number;
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

function library(): Koffi {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
  return koffi;
}

function find(name: string, signature: string): CFunction {
  let cFunction = functions.get(name);
  if (!cFunction) {
    cFunction = library().load(null).func(signature);
    functions.set(name, cFunction);
  }
  return cFunction;
}

async function call(name: string, signature: string, args: unknown[]): Promise<number> {
  const cFunction = find(name, signature);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  cFunction.async(...args, (error: Error | null, result: number) => {
    if (error) reject(error);
    else if (result < 0) reject(new SystemCallError(name, library().errno()));
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
export async function umount(target: string, flags = 0): Promise<void> {
  await call('umount2', 'int umount2(const void *target, int flags)', [
    cString(target),
    flags | UnmountFlag.NOFOLLOW,
  ]);
}

/** <sys/socket.h> */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** Two connected sockets, which programs that are started do not inherit. @throws SystemCallError */
export function socketPair(): [number, number] {
  const ends: [number, number] = [-1, -1];
  const socketpair = find(
    'socketpair',
    'int socketpair(int domain, int type, int protocol, _Out_ int *ends)',
  );
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
    throw new SystemCallError('socketpair', library().errno());
  }
  return ends;
}

/**
 * A descriptor that was sent through a socket (unix(7)), or undefined at its end. Blocks until there is one or the
 * other.
 *
 * @throws SystemCallError
 */
export function receiveDescriptor(socket: number): number | undefined {
  const recvmsg = findRecvmsg();
  // A cmsghdr, and a descriptor behind it.
  const word = library().sizeof('size_t');
  const header = word + 8;
  const control = Buffer.alloc(header + word);
  const [base, length] = [Buffer.alloc(1), 1];
  const message = { iov: [{ base, length }], iovlen: 1, control, controllen: control.length };
  const received = recvmsg(socket, { name: null, namelen: 0, ...message, flags: 0 }, MSG_CMSG_CLOEXEC);
  if (received < 0) throw new SystemCallError('recvmsg', library().errno());
  const [level, type] = [control.readInt32LE(word), control.readInt32LE(word + 4)];
  return level === SOL_SOCKET && type === SCM_RIGHTS ? control.readInt32LE(header) : undefined;
}

function findRecvmsg(): CFunction {
  const known = functions.get('recvmsg');
  if (known) return known;
  library().struct('iovec', { base: 'void *', length: 'size_t' });
  library().struct('msghdr', {
    name: 'void *',
    namelen: 'uint32_t',
    iov: 'iovec *',
    iovlen: 'size_t',
    control: 'void *',
    controllen: 'size_t',
    flags: 'int',
  });
  return find('recvmsg', 'long recvmsg(int socket, _Inout_ msghdr *message, int flags)');
}
