import { readlinkSync } from 'node:fs';
import { SystemCallError } from '../c-library.js';
import { mount, UnmountFlag, umount } from '../fuse/device/system-calls.js';
import { CHANNEL, type FromHolder, type ToHolder } from './holder-messages.js';
import { openLineChannel } from './line-channel.js';

/**
 * Keeps a mount namespace, and mounts in it what the daemon wants there; see user-namespace.ts. It ends when the channel
 * closes: with the daemon, or, if that was killed, when nobody keeps the channel for another one any more.
 */

// The daemon that had its other end may be gone.
process.stderr.on('error', () => undefined);
const channel = openLineChannel(CHANNEL, {
  onMessage: (message) => void answer(message as ToHolder),
  onClose: () => process.exit(),
});

async function answer(message: ToHolder): Promise<void> {
  const { id } = message;
  const send = (result: Omit<FromHolder, 'id'>) => channel.send({ id, ...result });
  try {
    if ('mount' in message) await mount(message.mount);
    else if ('unmount' in message) {
      await umount(message.unmount.target, message.unmount.lazy ? UnmountFlag.DETACH : 0);
    }
    send('who' in message ? { namespace: readlinkSync('/proc/self/ns/mnt') } : {});
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    const { syscall, errno } = error;
    send({ error: { syscall, errno } });
  }
}
