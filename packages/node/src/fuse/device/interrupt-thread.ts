import { constants } from 'node:os';
import { cFunction } from '../../c-library.js';

/** Ignored unless somebody listens. */
const SIGNAL = 'SIGURG';

let listening = false;

/**
 * Makes a system call in which a thread of this process waits end with EINTR. A thread that is just not waiting takes
 * no notice.
 *
 * @param thread what the kernel calls it by
 */
export function interruptThread(thread: number): void {
  const number = constants.signals[SIGNAL];
  if (!listening) {
    process.on(SIGNAL, () => undefined);
    // Without it the kernel would begin the call anew.
    cFunction('siginterrupt', 'int siginterrupt(int signal, int flag)')(number, 1);
    listening = true;
  }
  cFunction('tgkill', 'int tgkill(int process, int thread, int signal)')(process.pid, thread, number);
}
