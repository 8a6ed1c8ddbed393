import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf } from '@lazytree/core';
import { toHex } from '../object-names.js';

/** Tables of a remote, kept on this machine's disk. They never change; losing them costs only to fetch them again. */
export interface IndexCache {
  read(id: string): Promise<Buffer | undefined>;
  write(id: string, bytes: Uint8Array): Promise<void>;
  /** Drops all but these. */
  retain(ids: ReadonlySet<string>): Promise<void>;
}

/** @param directory made when something is written */
export function createIndexCache(directory: string): IndexCache {
  const path = (id: string) => join(directory, toHex(id));

  return {
    async read(id) {
      const bytes = await readFile(path(id)).catch(unlessMissing);
      // A torn or damaged file is as good as none.
      return bytes && digestOf(bytes) === id ? bytes : undefined;
    },
    async write(id, bytes) {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const temporary = `${path(id)}.${process.pid}.new`;
      try {
        await writeFile(temporary, bytes, { mode: 0o600 });
        await rename(temporary, path(id));
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    },
    async retain(ids) {
      const names = (await readdir(directory).catch(unlessMissing)) ?? [];
      const kept = new Set([...ids].map(toHex));
      for (const name of names) if (!kept.has(name)) await rm(join(directory, name), { force: true });
    },
  };
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
