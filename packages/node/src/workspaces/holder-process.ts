import { readlinkSync } from 'node:fs';
import { SystemCallError } from '../c-library.js';
import { mount, UnmountFlag, umount } from '../fuse/device/system-calls.js';
import type { FromHolder, ToHolder } from './holder-messages.js';

/**
 * Keeps a mount namespace, and mounts in it what the daemon wants there; see user-namespace.ts. It ends with the
 * daemon, whatever ends that: the channel closes.
 */

const send = (message: FromHolder) => process.send?.(message);

process.on('disconnect', () => process.exit());
process.on('message', (message: ToHolder) => void carryOut(message));
send({ namespace: readlinkSync('/proc/self/ns/mnt') });

async function carryOut(message: ToHolder): Promise<void> {
  const { id } = message;
  try {
    if ('mount' in message) await mount(message.mount);
    else await umount(message.unmount.target, message.unmount.lazy ? UnmountFlag.DETACH : 0);
    send({ id });
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    const { syscall, errno } = error;
    send({ id, error: { syscall, errno } });
  }
}
