import { accessSync, constants, statSync } from 'node:fs';
import { constants as system } from 'node:os';
import { join } from 'node:path';
import { LazytreeError } from '@lazytree/core';
import { cFunction, cString, lastError } from './c-library.js';

/** <fcntl.h>, <signal.h> */
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const SIG_DFL = null;

/**
 * Makes this process the program, as a shell's `exec` does: whoever waits for it waits for the program, with the same
 * terminal, descriptors and environment. Returns only by throwing.
 *
 * process.execve() would leave what node has changed for itself: signals that it ignores, and pipes that do not block.
 *
 * @throws LazytreeError NOT_FOUND; SystemCallError
 */
export function replaceProcess(program: string, args: readonly string[]): never {
  const path = findProgram(program);
  const signal = cFunction('signal', 'void *signal(int number, void *handler)');
  for (const ignored of [system.signals.SIGPIPE, system.signals.SIGXFSZ]) signal(ignored, SIG_DFL);
  const fcntl = cFunction('fcntl', 'int fcntl(int descriptor, int command, long argument)');
  for (const stdio of [0, 1, 2]) {
    fcntl(stdio, F_SETFD, 0);
    const flags = fcntl(stdio, F_GETFL, 0);
    if (flags >= 0) fcntl(stdio, F_SETFL, flags & ~constants.O_NONBLOCK);
  }
  const execv = cFunction('execv', 'int execv(const void *path, void **arguments)');
  execv(cString(path), [...[program, ...args].map(cString), null]);
  throw lastError('execv');
}

function findProgram(program: string): string {
  if (program.includes('/')) return program;
  for (const directory of (process.env.PATH ?? '').split(':')) {
    const path = join(directory || '.', program);
    if (isProgram(path)) return path;
  }
  throw new LazytreeError('NOT_FOUND', `there is no program '${program}' in PATH`);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
