import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** A process that keeps a mount busy. */
export interface Holder {
  pid: number;
  command: string;
  /** What it has there. */
  what: 'working directory' | 'root directory' | 'program' | 'open file' | 'mapped file';
  path: string;
}

const LINKS = { cwd: 'working directory', root: 'root directory', exe: 'program' } as const;

/** Processes that use anything below `target`, as far as we may look. Touches no mount: the kernel tells the names. */
export async function findHolders(target: string): Promise<Holder[]> {
  const holders: Holder[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const use = await usedBy(`/proc/${name}`, target);
    if (!use) continue;
    const command = await readFile(`/proc/${name}/comm`, 'utf8').catch(() => '?\n');
    holders.push({ pid: Number(name), command: command.trim(), ...use });
  }
  return holders;
}

async function usedBy(process: string, target: string): Promise<Pick<Holder, 'what' | 'path'> | undefined> {
  const isBelow = (path: string) => path === target || path.startsWith(`${target}/`);
  for (const [link, what] of Object.entries(LINKS)) {
    const path = await linkTarget(join(process, link));
    if (isBelow(path)) return { what, path };
  }
  // A process may end, or not be ours to look at.
  for (const descriptor of await readdir(join(process, 'fd')).catch(() => [])) {
    const path = await linkTarget(join(process, 'fd', descriptor));
    if (isBelow(path)) return { what: 'open file', path };
  }
  const maps = await readFile(join(process, 'maps'), 'utf8').catch(() => '');
  for (const line of maps.split('\n')) {
    const path = line.slice(line.indexOf('/'));
    if (line.includes('/') && isBelow(path)) return { what: 'mapped file', path };
  }
  return undefined;
}

async function linkTarget(link: string): Promise<string> {
  const target = await readlink(link).catch(() => '');
  return target.replace(/ \(deleted\)$/, '');
}

/** For an error: `bash (process 12, working directory /x), …`. */
export function formatHolders(holders: readonly Holder[]): string {
  const [shown, rest] = [holders.slice(0, 5), holders.length - 5];
  const list = shown.map(({ pid, command, what, path }) => `${command} (process ${pid}, ${what} ${path})`);
  return [...list, ...(rest > 0 ? [`${rest} more`] : [])].join(', ');
}
