// What people copy trees from machine to machine with, serving a tree on loopback.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isListening, serve } from './cluster.mjs';
import { shell } from './command.mjs';
import { have } from './peers.mjs';

export const RSYNC = 'rsync';
export const TAR_ZSTD_SOCKET = 'tar \\| zstd \\| socket';
const RSYNC_PORT = 28_730;
const SOCKET_PORT = 28_731;

/**
 * @typedef {import('./context.mjs').Context} Context
 * @typedef {import('./command.mjs').Command} Command
 *
 * @typedef {object} Copier
 * @property {string} name
 * @property {(target: string) => Command} copy to a directory, which may be there
 */

/**
 * @param {DisposableStack} stack ends the server
 * @param {Context} context
 * @param {string} tree
 * @returns {Copier[]} none when it is not installed
 */
export function rsyncDaemon(stack, context, tree) {
  if (!have('rsync')) return [];
  const config = join(context.fresh('rsync'), 'rsyncd.conf');
  writeFileSync(config, `use chroot = no\nuid = 0\ngid = 0\n[tree]\npath = ${tree}\nread only = yes\n`);
  const argv = ['rsync', '--daemon', '--no-detach', `--port=${RSYNC_PORT}`, `--config=${config}`];
  serve(stack, { argv }, () => isListening(RSYNC_PORT));
  const url = `rsync://127.0.0.1:${RSYNC_PORT}/tree/`;
  return [{ name: RSYNC, copy: (target) => ({ argv: ['rsync', '-a', '--stats', url, target] }) }];
}

/**
 * @param {string} stats what `rsync --stats` has printed
 * @returns {number} bytes on the wire, both ways
 */
export function bytesOfRsync(stats) {
  const [sent, received] = ['sent', 'received'].map((way) =>
    Number(new RegExp(`Total bytes ${way}: ([\\d,]+)`).exec(stats)?.[1].replaceAll(',', '')),
  );
  return sent + received;
}

/**
 * @param {DisposableStack} stack ends the server
 * @param {string} tree
 * @returns {Copier[]} none when one of the programs is not installed
 */
export function tarServer(stack, tree) {
  if (!have('tar', 'zstd', 'socat')) return [];
  // The probe takes one of its connections, and goes away.
  const address = `TCP-LISTEN:${SOCKET_PORT},reuseaddr,fork`;
  const argv = ['socat', '-U', address, `SYSTEM:tar c -C '${tree}' . | zstd -q`];
  serve(stack, { argv }, () => isListening(SOCKET_PORT));
  const script = `socat -u TCP:127.0.0.1:${SOCKET_PORT} STDOUT | zstd -dq | tar x -C "$1"`;
  return [
    {
      name: TAR_ZSTD_SOCKET,
      copy(target) {
        mkdirSync(target, { recursive: true });
        return shell(script, target);
      },
    },
  ];
}
