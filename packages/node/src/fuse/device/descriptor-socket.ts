import { type CFunction, cFunction, lastError, library } from '../../c-library.js';

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
  const socketpair = cFunction(
    'socketpair',
    'int socketpair(int domain, int type, int protocol, _Out_ int *ends)',
  );
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
    throw lastError('socketpair');
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
  if (received < 0) throw lastError('recvmsg');
  const [level, type] = [control.readInt32LE(word), control.readInt32LE(word + 4)];
  return level === SOL_SOCKET && type === SCM_RIGHTS ? control.readInt32LE(header) : undefined;
}

let known: CFunction | undefined;

function findRecvmsg(): CFunction {
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
  known = cFunction('recvmsg', 'long recvmsg(int socket, _Inout_ msghdr *message, int flags)');
  return known;
}
