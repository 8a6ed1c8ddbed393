import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { type Result, type Sandbox, start } from '../helpers.ts';

/** Longer than anything here takes: what is still running then, hangs. */
const PATIENCE_MS = 60_000;

/** Runs a script in the sandbox. This process itself touches no mount: it would wait with no one to kill it. */
export async function sh(box: Sandbox, script: string): Promise<Result> {
  const { child, ended } = start(['bash', '-c', script], {
    home: box.home,
    cwd: box.directory,
    env: { LC_ALL: 'C' },
  });
  const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
  const result = await ended;
  clearTimeout(late);
  expect(result.signal, `it hangs: ${script}`).not.toBe('SIGKILL');
  return result;
}

/** What a script that has to succeed prints. */
export async function shOk(box: Sandbox, script: string): Promise<string> {
  const { code, out, err } = await sh(box, script);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return out;
}

export interface ListedMount {
  target: string;
  root: string;
  tree: string;
  state: string;
  size: number;
  files: number;
  use: { requests: number; reads: number; bytes: number; hits: number; fetched: number; pushed: number };
}

export async function mounts(box: Sandbox): Promise<ListedMount[]> {
  return (await box.json<{ mounts: ListedMount[] }>('mounts')).mounts;
}

/** Reads of content so far, of all roots that are mounted. */
export async function readsOf(box: Sandbox): Promise<number> {
  const byRoot = new Map((await mounts(box)).map(({ root, use }) => [root, use.reads]));
  return [...byRoot.values()].reduce((sum, reads) => sum + reads, 0);
}

export async function daemonPid(box: Sandbox): Promise<number> {
  return (await box.json<{ pid: number }>('daemon', 'status')).pid;
}

export async function killDaemon(box: Sandbox): Promise<void> {
  const pid = await daemonPid(box);
  process.kill(pid, 'SIGKILL');
  while (isRunning(pid)) await sleep(10);
}

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Types of what is mounted on a directory, the uppermost last; `below`: on anything below it but the home. */
export function mountedOn(directory: string, below = false): string[] {
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const isMeant = (target = '') =>
    below ? target.startsWith(directory) && !target.startsWith(`${directory}home/`) : target === directory;
  return lines
    .filter((line) => isMeant(line.split(' ')[4]))
    .map((line) => line.split(' - ')[1].split(' ')[0]);
}
