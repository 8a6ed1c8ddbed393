import type { CommandRequest } from './protocol.js';

/**
 * Whoever can write to the socket may send anything. The fields are few, and checked without a library: to load one
 * takes longer than the command that the daemon was started for.
 *
 * @throws Error with one line that says what is wrong
 */
export function parseCommandRequest(text: string): CommandRequest {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error('the body is not JSON');
  }
  if (!isObject(body)) throw wrong('it', 'an object');
  const { argv, cwd, umask, terminal = {}, env = {} } = body;
  if (!Array.isArray(argv) || !argv.every(isString)) throw wrong('argv', 'a list of strings');
  if (cwd !== undefined && !(isString(cwd) && cwd.startsWith('/'))) throw wrong('cwd', 'an absolute path');
  if (umask !== undefined && !isMode(umask)) throw wrong('umask', 'a number from 0 to 511');
  if (!isObject(terminal)) throw wrong('terminal', 'an object');
  const { stdout = false, progress = false } = terminal;
  if (typeof stdout !== 'boolean') throw wrong('terminal.stdout', 'true or false');
  if (typeof progress !== 'boolean') throw wrong('terminal.progress', 'true or false');
  if (!isVariables(env)) throw wrong('env', 'strings by names that begin with LAZYTREE_');
  return {
    argv,
    ...(cwd === undefined ? {} : { cwd }),
    ...(umask === undefined ? {} : { umask }),
    terminal: { stdout, progress },
    env,
  };
}

function wrong(field: string, wanted: string): Error {
  return new Error(`the body is no command: ${field} has to be ${wanted}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

function isMode(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0o777;
}

function isVariables(value: unknown): value is Record<string, string> {
  if (!isObject(value)) return false;
  return Object.entries(value).every(([name, text]) => /^LAZYTREE_[A-Z0-9_]+$/.test(name) && isString(text));
}
