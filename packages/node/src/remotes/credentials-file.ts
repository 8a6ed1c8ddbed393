import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { fromSystemError, LazytreeError } from '@lazytree/core/errors';
import type { CredentialEnv } from './credential-variables.js';

const NAMES = ['AZURE_STORAGE_CONNECTION_STRING', 'AZURE_STORAGE_SAS_TOKEN', 'AZURE_STORAGE_KEY'] as const;
const MOST_BYTES = 64 << 10;

/**
 * Secrets of a remote from a file that nobody else can read: a connection string, or lines `NAME=VALUE`.
 *
 * @throws LazytreeError NOT_FOUND; REFUSED when others can read or change it, or when it is not understood. No error
 * says what is in it
 */
export async function readCredentialsFile(file: string): Promise<CredentialEnv> {
  const what = `the credentials file ${file}`;
  let handle: FileHandle;
  try {
    // Without waiting for a pipe's writer.
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw fromSystemError(error, `reading ${what}`);
  }
  try {
    await refuseUnsafe(handle, what);
    const buffer = Buffer.alloc(MOST_BYTES + 1);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
    if (bytesRead > MOST_BYTES) throw wrong(what, 'it is too long');
    return parse(buffer.toString('utf8', 0, bytesRead), what);
  } catch (error) {
    throw fromSystemError(error, `reading ${what}`);
  } finally {
    await handle.close();
  }
}

async function refuseUnsafe(handle: FileHandle, what: string): Promise<void> {
  const found = await handle.stat();
  if (!found.isFile()) throw wrong(what, 'it is not a regular file');
  const user = process.geteuid?.();
  if (user !== undefined && found.uid !== user && found.uid !== 0) {
    throw new LazytreeError('REFUSED', `${what} belongs to another user`, {
      hint: 'make one of your own, of mode 0600',
    });
  }
  if ((found.mode & 0o077) !== 0) {
    const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
    throw new LazytreeError('REFUSED', `${what} can be used by others: its mode is ${mode}`, {
      hint: 'run `chmod 600` on it, and change the secret if others may have read it',
    });
  }
}

function parse(text: string, what: string): CredentialEnv {
  const lines = text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (lines.length === 0) throw wrong(what, 'it is empty');
  if (!/^(?:export\s+)?AZURE_/.test(lines[0])) {
    if (lines.length > 1) throw wrong(what, 'it has more than the one line of a connection string');
    return { AZURE_STORAGE_CONNECTION_STRING: lines[0] };
  }
  const found: Partial<Record<(typeof NAMES)[number], string>> = {};
  lines.forEach((line, at) => {
    const [, name, quoted] = /^(?:export\s+)?([A-Z_]+)\s*=\s*(.*)$/.exec(line) ?? [];
    const known = NAMES.find((one) => one === name);
    if (!known) throw wrong(what, `line ${at + 1} is not one of ${NAMES.join(', ')}, and =`);
    const value = /^(["'])(.*)\1$/.exec(quoted)?.[2] ?? quoted;
    if (value === '') throw wrong(what, `${known} is empty`);
    if (found[known] !== undefined) throw wrong(what, `${known} is in it twice`);
    found[known] = value;
  });
  return found;
}

function wrong(what: string, why: string): LazytreeError {
  return new LazytreeError('REFUSED', `${what} cannot be used: ${why}`, {
    hint: `it has a connection string, or lines NAME=VALUE with ${NAMES.join(', ')}`,
  });
}
