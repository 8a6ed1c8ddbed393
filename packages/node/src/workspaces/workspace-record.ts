import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, formatLink, type Link, parseLink } from '@lazytree/core';
import { readState, writeState } from '../state-file.js';
import type { KeepPolicy } from './thinning.js';

/** How a workspace is saved by itself. */
export interface Autosave {
  /** Milliseconds. */
  interval: number;
  /** Of the automatic snapshots, here and at the remote. */
  keep: KeepPolicy;
  /** Where what is saved is pushed to as well. */
  remote?: string | undefined;
}

/** What is remembered of a workspace, in `workspaces/<name>/workspace.json` of the home. */
export interface WorkspaceRecord {
  name: string;
  /** Where it is mounted. */
  target: string;
  /** Whether the mount point was made for it, and goes with it. */
  madeTarget: boolean;
  /** The tree that its layer lies over. */
  base: Link;
  /** Number of the directory, in `layers`, with what has been changed. */
  layer: number;
  /** What was saved last. */
  saved: Link;
  /** An image that has what the store lacks. */
  image?: string | undefined;
  /** Whether saving follows `.lazytreeignore` files. */
  ignoreFiles: boolean;
  autosave?: Autosave | undefined;
  /** What was last pushed to the remote of the autosave. */
  pushed?: Link | undefined;
  /** Milliseconds since the epoch. */
  created: number;
}

export function workspacesDirectory(home: string): string {
  return join(home, 'workspaces');
}

export function workspaceDirectory(home: string, name: string): string {
  return join(workspacesDirectory(home), name);
}

export interface Layer {
  upper: string;
  work: string;
}

export function layerOf(home: string, { name, layer }: Pick<WorkspaceRecord, 'name' | 'layer'>): Layer {
  const directory = join(workspaceDirectory(home, name), 'layers', String(layer));
  return { upper: join(directory, 'upper'), work: join(directory, 'work') };
}

function recordFile(home: string, name: string): string {
  return join(workspaceDirectory(home, name), 'workspace.json');
}

export async function writeWorkspace(home: string, record: WorkspaceRecord): Promise<void> {
  const { base, saved, pushed } = record;
  await writeState(recordFile(home, record.name), {
    ...record,
    base: formatLink(base),
    saved: formatLink(saved),
    pushed: pushed && formatLink(pushed),
  });
}

/** Every workspace of a home, by name. */
export async function readWorkspaces(home: string): Promise<WorkspaceRecord[]> {
  const records: WorkspaceRecord[] = [];
  for (const name of (await namesIn(workspacesDirectory(home))).sort()) {
    const stored = (await readState(recordFile(home, name))) as StoredWorkspace | undefined;
    // One that was being made or removed when its process died.
    if (!stored) continue;
    const [base, saved] = [stored.base, stored.saved].map(parseLink);
    const pushed = stored.pushed === undefined ? undefined : parseLink(stored.pushed);
    records.push({ ...stored, base, saved, pushed });
  }
  return records;
}

/** What is in a directory; nothing when it is not there. */
export async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
}

type StoredWorkspace = Omit<WorkspaceRecord, 'base' | 'saved' | 'pushed'> & {
  base: string;
  saved: string;
  pushed?: string;
};
