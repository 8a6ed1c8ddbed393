// A tree as different programs show it. Each is mounted anew when it has to know nothing of the tree.
import { readdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { OURS } from './alternate.mjs';
import { run, shell, start } from './command.mjs';
import { lazytree } from './lazytree.mjs';
import { hasEnded, isMounted, takeAway, waitUntil } from './mount-points.mjs';
import { archiver, have, resticCommand } from './peers.mjs';

/** Our name where a row is about a writable workspace. */
export const WORKSPACE = 'lazytree workspace';
export const SQUASHFUSE = 'squashfuse_ll';
const BINDFS = 'bindfs';
export const RESTIC_MOUNT = 'restic mount';
export const EXT4 = 'ext4';
/** What of a workspace's time is the kernel's own, whatever lies below. */
export const OVERLAY = 'overlayfs on ext4';

const MOST_SECONDS = 60;

/**
 * @typedef {import('./command.mjs').Command} Command
 * @typedef {import('./context.mjs').Context} Context
 *
 * @typedef {object} FileSystem
 * @property {string} name
 * @property {string[]} data what it reads, which has to be in the page cache
 * @property {(stack: DisposableStack, directory: string, wrap: Wrap) => string} mount gives where the tree is; the stack
 * takes it away
 *
 * @typedef {(command: Command) => Command} Wrap how a server is started
 */

/**
 * Mounts all of them anew, with what they read in the page cache.
 * @param {Context} context
 * @param {FileSystem[]} systems
 * @param {{ stack: DisposableStack, wrap?: Wrap }} options
 * @returns {{ name: string, path: string }[]}
 */
export function mountAll(context, systems, { stack, wrap = (command) => command }) {
  for (const { data } of systems) for (const path of data) readIntoCache(path);
  return systems.map(({ name, mount }) => ({ name, path: mount(stack, context.fresh('mnt'), wrap) }));
}

/** @param {string} path a file or a directory */
export function readIntoCache(path) {
  run(shell('find "$1" -xdev -type f -exec cat {} + > /dev/null', path));
}

/**
 * Client and server on one processor: no wake-up crosses from one to another.
 * @type {Wrap}
 */
export function onOneProcessor(command) {
  return { ...command, argv: ['taskset', '-c', '0', ...command.argv] };
}

/**
 * The directory itself.
 * @param {string} path
 * @returns {FileSystem}
 */
export function ext4(path) {
  return { name: EXT4, data: [], mount: () => path };
}

/**
 * The directory, with a writable layer over it as a workspace has one over its mount.
 * @param {Context} context
 * @param {string} path
 * @returns {FileSystem}
 */
export function overlay(context, path) {
  return {
    name: OVERLAY,
    data: [],
    mount(stack, directory) {
      const [upper, work] = [context.fresh('upper'), context.fresh('work')];
      const options = `lowerdir=${path},upperdir=${upper},workdir=${work},redirect_dir=on,metacopy=on,xino=on`;
      run({ argv: ['mount', '-t', 'overlay', 'overlay', '-o', options, directory] });
      stack.defer(() => takeAway(directory));
      return directory;
    },
  };
}

/**
 * @param {string} home without a daemon
 * @param {string} root
 * @returns {FileSystem}
 */
export function lazytreeMount(home, root) {
  return {
    name: OURS,
    data: [join(home, 'store')],
    mount(stack, directory, wrap) {
      startDaemon(stack, home, wrap);
      run(lazytree(home, 'mount', root, directory));
      stack.defer(() => void run(lazytree(home, 'unmount', directory)));
      return directory;
    },
  };
}

/**
 * @param {string} home without a daemon
 * @param {string} root
 * @returns {FileSystem}
 */
export function lazytreeWorkspace(home, root) {
  let count = 0;
  return {
    name: WORKSPACE,
    data: [join(home, 'store')],
    mount(stack, directory, wrap) {
      startDaemon(stack, home, wrap);
      const name = `fork-${count++}`;
      run(lazytree(home, 'workspace', 'create', name, directory, '--from', root));
      stack.defer(() => void run(lazytree(home, 'workspace', 'remove', '--discard', name)));
      return directory;
    },
  };
}

/**
 * @param {DisposableStack} stack stops it
 * @param {string} home
 * @param {Wrap} [wrap]
 */
export function startDaemon(stack, home, wrap = (command) => command) {
  run(wrap(lazytree(home, 'daemon', 'start')));
  stack.defer(() => void run(lazytree(home, 'daemon', 'stop')));
}

/**
 * @param {Context} context
 * @param {string} tree
 * @returns {(FileSystem & { command: (directory: string) => Command })[]} none when it is not installed; with the
 * command that is back when it is mounted
 */
export function squashfuse(context, tree) {
  if (!have('squashfuse_ll', 'mksquashfs')) return [];
  const image = join(context.fresh('squashfs'), 'tree.squashfs');
  run({ argv: ['mksquashfs', tree, image, '-comp', 'zstd', '-quiet', '-no-progress'] });
  /** @param {string[]} options */
  const command = (...options) => ({ argv: ['squashfuse_ll', ...options, image] });
  return [
    {
      name: SQUASHFUSE,
      data: [image],
      command: (directory) => withArgument(command(), directory),
      mount: (stack, directory, wrap) =>
        serve(stack, withArgument(wrap(command('-f')), directory), directory),
    },
  ];
}

/**
 * Read-only, so that nobody changes the tree through it.
 * @param {string} tree
 * @returns {(FileSystem & { command: (directory: string) => Command })[]} as of {@link squashfuse}
 */
export function bindfs(tree) {
  if (!have('bindfs')) return [];
  const command = { argv: ['bindfs', '-o', 'ro', tree] };
  const foreground = { argv: ['bindfs', '-f', '-o', 'ro', tree] };
  return [
    {
      name: BINDFS,
      data: [tree],
      command: (directory) => withArgument(command, directory),
      mount: (stack, directory, wrap) => serve(stack, withArgument(wrap(foreground), directory), directory),
    },
  ];
}

/**
 * @param {Context} context
 * @param {string} tree
 * @returns {FileSystem[]} none when it is not installed
 */
export function resticMount(context, tree) {
  if (!have('restic')) return [];
  const state = context.fresh('restic');
  const { create, save, repository } = archiver('restic');
  create(state);
  run(save(state, tree, 'first'));
  return [
    {
      name: RESTIC_MOUNT,
      data: [join(state, repository), join(state, 'cache')],
      mount(stack, directory, wrap) {
        serve(stack, wrap(resticCommand(state, 'mount', directory)), directory);
        const snapshots = join(directory, 'snapshots');
        waitUntil(() => readdirSync(snapshots).length > 0, { seconds: MOST_SECONDS, what: 'restic mount' });
        return realpathSync(join(snapshots, 'latest'));
      },
    },
  ];
}

/**
 * @param {Command} command
 * @param {string} argument
 * @returns {Command}
 */
function withArgument(command, argument) {
  return { ...command, argv: [...command.argv, argument] };
}

/**
 * @param {DisposableStack} stack ends it
 * @param {Command} command a server in the foreground
 * @param {string} directory where it mounts
 */
function serve(stack, command, directory) {
  const pid = start(command);
  stack.defer(() => {
    if (isMounted(directory)) takeAway(directory);
    if (!hasEnded(pid)) endServer(pid, command.argv[0]);
  });
  waitUntil(() => isMounted(directory) || hasEnded(pid), { seconds: MOST_SECONDS, what: command.argv[0] });
  if (!isMounted(directory)) throw new Error(`${command.argv.join(' ')} does not mount`);
  return directory;
}

/**
 * It should end by itself when nothing is mounted any more.
 * @param {number} pid
 * @param {string} name
 */
function endServer(pid, name) {
  try {
    waitUntil(() => hasEnded(pid), { seconds: 5, what: name });
  } catch {
    process.kill(pid, 'SIGKILL');
  }
}
