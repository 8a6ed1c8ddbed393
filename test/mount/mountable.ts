import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { type Sandbox, whyNotMount } from '../helpers.ts';

/** Whether tests of mounts have to be skipped here; if so, says why on the terminal. */
export function unlessMountable(what: string): boolean {
  const reason = whyNotMount() ?? whyNotFuse() ?? whyNotOverlay();
  if (reason) console.warn(`skipped all tests of ${what}: ${reason}`);
  return reason !== undefined;
}

function whyNotFuse(): string | undefined {
  if (!fs.existsSync('/dev/fuse')) spawnSync('modprobe', ['fuse']);
  return fs.existsSync('/dev/fuse') ? undefined : 'there is no /dev/fuse';
}

function whyNotOverlay(): string | undefined {
  if (!/\boverlay$/m.test(fs.readFileSync('/proc/filesystems', 'utf8'))) spawnSync('modprobe', ['overlay']);
  return /\boverlay$/m.test(fs.readFileSync('/proc/filesystems', 'utf8'))
    ? undefined
    : 'the kernel has no overlayfs';
}

/** Ends the daemon of a sandbox, and whatever it had mounted. */
export async function stopDaemon(box: Sandbox): Promise<void> {
  await box.run(['daemon', 'stop']);
  const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  for (const line of mounts) {
    const target = line.split(' ')[4];
    if (target?.startsWith(`${box.directory}/`)) spawnSync('umount', ['-l', target]);
  }
}
