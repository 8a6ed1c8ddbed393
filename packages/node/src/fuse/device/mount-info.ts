import { readFile } from 'node:fs/promises';
import { nameFromBytes } from '@lazytree/core';

/** A line of /proc/self/mountinfo (proc_pid_mountinfo(5)). Reading it touches no mount. */
export interface MountInfo {
  id: number;
  parent: number;
  /** Device number of the file system, whose minor half names a FUSE connection. */
  major: number;
  minor: number;
  /** What of the file system is mounted. */
  root: string;
  /** Where. */
  target: string;
  type: string;
  source: string;
  /** Of the file system, as they stand there. */
  options: string;
}

/** What is mounted in the mount namespace of a process. */
export async function readMountInfo(pid: number | 'self' = 'self'): Promise<MountInfo[]> {
  const lines = nameFromBytes(await readFile(`/proc/${pid}/mountinfo`)).split('\n');
  return lines.filter((line) => line !== '').map(parseMountInfo);
}

export function parseMountInfo(line: string): MountInfo {
  const [before, after] = line.split(' - ', 2);
  const [id, parent, device, root, target] = before.split(' ');
  const [type, source, options] = after.split(' ');
  const [major, minor] = device.split(':');
  return {
    id: Number(id),
    parent: Number(parent),
    major: Number(major),
    minor: Number(minor),
    root: unescapeOctal(root),
    target: unescapeOctal(target),
    type,
    source: unescapeOctal(source),
    options: options ?? '',
  };
}

/** Spaces, tabs, newlines and backslashes are octal there; in options, commas as well. */
export function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** What every mount of ours, of whatever type, gives as its source. */
export const SOURCE = 'lazytree';

export function isOurs({ source }: MountInfo): boolean {
  return source === SOURCE;
}

/** The mount that one sees at `target`, the uppermost of several. */
export function mountAt(mounts: readonly MountInfo[], target: string): MountInfo | undefined {
  return mounts.findLast((mount) => mount.target === target);
}
