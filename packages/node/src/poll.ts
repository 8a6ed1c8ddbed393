import { cFunction, lastError } from './c-library.js';

/** <poll.h> */
const POLLIN = 1;
const POLLERR = 8;
const POLLFD_BYTES = 8;
const EVENTS_AT = 4;
const FOUND_AT = 6;

/**
 * Which of the descriptors have something to be read, or have ended; none when the time is over. Blocks meanwhile; -1
 * is for as long as it takes.
 */
export function waitForAny(descriptors: readonly number[], milliseconds: number): boolean[] {
  return poll(descriptors, milliseconds).map((found) => found !== 0);
}

/** Whether nothing will ever be read from a descriptor any more: of a FUSE connection, because it was aborted. */
export function hasFailed(descriptor: number): boolean {
  return (poll([descriptor], 0)[0] & POLLERR) !== 0;
}

function poll(descriptors: readonly number[], milliseconds: number): number[] {
  const call = cFunction(
    'poll',
    'int poll(_Inout_ void *descriptors, unsigned long count, int milliseconds)',
  );
  const polled = Buffer.alloc(descriptors.length * POLLFD_BYTES);
  descriptors.forEach((descriptor, i) => {
    polled.writeInt32LE(descriptor, i * POLLFD_BYTES);
    polled.writeInt16LE(POLLIN, i * POLLFD_BYTES + EVENTS_AT);
  });
  if (call(polled, descriptors.length, milliseconds) < 0) {
    const error = lastError('poll');
    if (error.code !== 'EINTR') throw error;
  }
  return descriptors.map((_, i) => polled.readInt16LE(i * POLLFD_BYTES + FOUND_AT));
}
