import { existsSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fromSystemError } from '@lazytree/core';
import { removeTree } from '../workspaces/remove-tree.js';

/** A directory to try things in, on the file system that a home is on or would be made on. */
export interface Scratch {
  directory: string;
  remove(): Promise<void>;
}

/** @throws LazytreeError where nothing can be written */
export async function makeScratch(home: string): Promise<Scratch> {
  const place = nearestDirectory(home);
  try {
    const directory = await mkdtemp(join(place, '.lazytree-doctor-'));
    return { directory, remove: () => removeTree(directory) };
  } catch (error) {
    throw fromSystemError(error, `writing in '${place}'`);
  }
}

/** The home, or the nearest directory above it that is there. */
export function nearestDirectory(home: string): string {
  let nearest = home;
  while (!existsSync(nearest) && dirname(nearest) !== nearest) nearest = dirname(nearest);
  return nearest;
}
