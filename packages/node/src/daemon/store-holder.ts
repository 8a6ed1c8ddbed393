import fs from 'node:fs';

/** The process that has a home's store open, which says so in the store's lock. */
export function storeHolder(home: string): number | undefined {
  try {
    return Number(fs.readFileSync(`${home}/store/lock`, 'utf8')) || undefined;
  } catch {
    return undefined;
  }
}
