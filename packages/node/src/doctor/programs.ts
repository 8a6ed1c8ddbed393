import { execFile } from 'node:child_process';
import { errnoOf } from '@lazytree/core';
import type { Check } from './check.js';

const PATIENCE_MS = 10_000;

/**
 * The first line that a program prints.
 *
 * @returns undefined where there is no such program
 * @throws Error when it fails
 */
export function runProgram(program: string, args: string[]): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { cwd: '/', timeout: PATIENCE_MS }, (error, stdout) => {
      if (!error) resolve(stdout.split('\n')[0]);
      else if (errnoOf(error) === 'ENOENT') resolve(undefined);
      else reject(error);
    });
  });
}

export async function checkGit(): Promise<Omit<Check, 'name'>> {
  const version = await runProgram('git', ['--version']);
  if (version !== undefined) return { status: 'ok', detail: version };
  return {
    status: 'limited',
    detail: 'not here, and origins that begin with git: need it',
    hint: 'install the package git',
  };
}
