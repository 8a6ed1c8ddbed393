import fs from 'node:fs';
import { type CFunction, cFunction, lastError, library } from './c-library.js';

/** Unix sockets through which open descriptors are sent (unix(7)), for which Node has no calls. */

/** <sys/socket.h> */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SO_SNDTIMEO = 21;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const ADDRESS_BYTES = 108;
const INT = 4;

const MOST_BYTES = 64 << 10;
const MOST_DESCRIPTORS = 16;

export interface Message {
  bytes: Buffer;
  descriptors: number[];
}

/** Two connected sockets, which programs that are started do not inherit. @throws SystemCallError */
export function socketPair(): [number, number] {
  return pairOf(SOCK_STREAM);
}

/** Such a pair, for whole messages. @throws SystemCallError */
export function messageSocketPair(): [number, number] {
  return pairOf(SOCK_SEQPACKET);
}

function pairOf(type: number): [number, number] {
  const ends: [number, number] = [-1, -1];
  const socketpair = cFunction(
    'socketpair',
    'int socketpair(int domain, int type, int protocol, _Out_ int *ends)',
  );
  check('socketpair', socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
  return ends;
}

/** A socket for messages on which others can call. @throws SystemCallError */
export function listenForMessages(path: string): number {
  const bind = cFunction('bind', 'int bind(int socket, const void *address, uint32_t length)');
  const listen = cFunction('listen', 'int listen(int socket, int backlog)');
  return messageSocket((socket) => {
    const address = addressOf(path);
    check('bind', bind(socket, address, address.length));
    check('listen', listen(socket, 1));
  });
}

/** A socket for messages to whoever listens there. @throws SystemCallError */
export function connectForMessages(path: string): number {
  const connect = cFunction('connect', 'int connect(int socket, const void *address, uint32_t length)');
  return messageSocket((socket) => {
    const address = addressOf(path);
    check('connect', connect(socket, address, address.length));
  });
}

/** The next who calls. @throws SystemCallError */
export function acceptConnection(listener: number): number {
  const accept = cFunction('accept4', 'int accept4(int socket, void *address, void *length, int flags)');
  return check('accept4', accept(listener, null, null, SOCK_CLOEXEC));
}

/** Has whoever sends through a socket wait so long at the most when there is no room. @throws SystemCallError */
export function limitSending(socket: number, milliseconds: number): void {
  const setsockopt = cFunction(
    'setsockopt',
    'int setsockopt(int socket, int level, int name, const void *value, uint32_t length)',
  );
  const { word } = messageCalls();
  // Seconds and microseconds.
  const time = Buffer.alloc(2 * word);
  time.writeUInt32LE(Math.floor(milliseconds / 1000), 0);
  time.writeUInt32LE((milliseconds % 1000) * 1000, word);
  check('setsockopt', setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, time, time.length));
}

/** The user who had the other end when it was connected. @throws SystemCallError */
export function peerUser(socket: number): number {
  const getsockopt = cFunction(
    'getsockopt',
    'int getsockopt(int socket, int level, int name, _Out_ void *value, _Inout_ uint32_t *length)',
  );
  // pid, uid, gid
  const credentials = Buffer.alloc(3 * INT);
  check('getsockopt', getsockopt(socket, SOL_SOCKET, SO_PEERCRED, credentials, [credentials.length]));
  return credentials.readUInt32LE(INT);
}

function messageSocket(prepare: (socket: number) => void): number {
  const socket = cFunction('socket', 'int socket(int domain, int type, int protocol)');
  const made = check('socket', socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  try {
    prepare(made);
    return made;
  } catch (error) {
    fs.closeSync(made);
    throw error;
  }
}

function addressOf(path: string): Buffer {
  const name = Buffer.from(path);
  if (name.length >= ADDRESS_BYTES) throw new RangeError(`too long for a socket: ${path}`);
  const address = Buffer.alloc(2 + ADDRESS_BYTES);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  return address;
}

/**
 * Sends a message and descriptors, which stay open here as well.
 *
 * @param options `wait`: for room, if there is none
 * @throws SystemCallError EAGAIN when there is no room for it
 */
export function sendMessage(
  socket: number,
  { bytes, descriptors }: Message,
  { wait }: { wait: boolean },
): void {
  const { word, sendmsg } = messageCalls();
  const header = word + 2 * INT;
  const used = header + descriptors.length * INT;
  const control = Buffer.alloc(descriptors.length === 0 ? 0 : Math.ceil(used / word) * word);
  if (descriptors.length > 0) {
    control.writeUInt32LE(used, 0);
    control.writeInt32LE(SOL_SOCKET, word);
    control.writeInt32LE(SCM_RIGHTS, word + INT);
    descriptors.forEach((descriptor, i) => {
      control.writeInt32LE(descriptor, header + i * INT);
    });
  }
  check(
    'sendmsg',
    sendmsg(socket, messageOf(bytes, control), wait ? MSG_NOSIGNAL : MSG_NOSIGNAL | MSG_DONTWAIT),
  );
}

/**
 * The next message, or undefined at the end. Blocks until there is one or the other.
 *
 * @throws SystemCallError
 */
export function receiveMessage(socket: number): Message | undefined {
  const { word, recvmsg } = messageCalls();
  const header = word + 2 * INT;
  const control = Buffer.alloc(header + MOST_DESCRIPTORS * INT);
  const bytes = Buffer.alloc(MOST_BYTES);
  const length = check('recvmsg', recvmsg(socket, messageOf(bytes, control), MSG_CMSG_CLOEXEC));
  const [level, type] = [control.readInt32LE(word), control.readInt32LE(word + INT)];
  const descriptors: number[] = [];
  if (level === SOL_SOCKET && type === SCM_RIGHTS) {
    const end = control.readUInt32LE(0);
    for (let at = header; at < end; at += INT) descriptors.push(control.readInt32LE(at));
  }
  return length === 0 && descriptors.length === 0
    ? undefined
    : { bytes: bytes.subarray(0, length), descriptors };
}

/** A descriptor that was sent through a socket, or undefined at its end. @throws SystemCallError */
export function receiveDescriptor(socket: number): number | undefined {
  return receiveMessage(socket)?.descriptors[0];
}

function check(call: string, result: number): number {
  if (result < 0) throw lastError(call);
  return result;
}

interface MessageCalls {
  /** Bytes of a size_t. */
  word: number;
  sendmsg: CFunction;
  recvmsg: CFunction;
}

let calls: MessageCalls | undefined;

function messageCalls(): MessageCalls {
  if (calls) return calls;
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
  calls = {
    word: library().sizeof('size_t'),
    sendmsg: cFunction('sendmsg', 'long sendmsg(int socket, const msghdr *message, int flags)'),
    recvmsg: cFunction('recvmsg', 'long recvmsg(int socket, _Inout_ msghdr *message, int flags)'),
  };
  return calls;
}

function messageOf(bytes: Buffer, control: Buffer) {
  return {
    name: null,
    namelen: 0,
    iov: [{ base: bytes, length: bytes.length }],
    iovlen: 1,
    control: control.length > 0 ? control : null,
    controllen: control.length,
    flags: 0,
  };
}
