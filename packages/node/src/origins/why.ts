import {
  type BlockSource,
  type Entry,
  findEntry,
  findImport,
  LazytreeError,
  type Link,
  type LocalStore,
  listProvenances,
  type OriginEntry,
  type Provenance,
  rootEntry,
  type StoreOptions,
} from '@lazytree/core';

/** How a part of a tree has come here. */
export interface Reason {
  /** Of the directory or file, in the tree, that is known to have come that way. */
  path: string;
  link: Link;
  how: Provenance | { from: 'import'; reference: string; time: number };
}

export interface Why {
  entry: Entry;
  /** The closest to the entry first. */
  reasons: Reason[];
  /** The origin that stands in the way, or is what was asked about, when it has not been resolved. */
  unresolved: { path: string; entry: OriginEntry } | undefined;
}

/**
 * Finds out where what is at a path has come from. Fetches nothing.
 *
 * @param source resolves what is known
 * @throws LazytreeError NOT_FOUND
 */
export async function explainPath(
  source: BlockSource,
  store: LocalStore,
  { root, path }: { root: Link; path: string },
  options?: StoreOptions,
): Promise<Why> {
  const reasons: Reason[] = [];
  let entry = await rootEntry(source, root, options);
  let walked = '';
  let wanted: string | undefined;
  note();
  for (const name of path.split('/')) {
    if (name === '' || name === '.') continue;
    if (entry.kind !== 'directory') throw new LazytreeError('NOT_FOUND', `'${walked}' is not a directory`);
    walked = walked === '' ? name : `${walked}/${name}`;
    const found: Entry | undefined = await findEntry(source, entry.link, name, options);
    if (!found) throw new LazytreeError('NOT_FOUND', `there is no '${walked}' in the tree`);
    entry = found;
    if (found.kind === 'origin') {
      const known = await resolved(found);
      wanted = `${found.driver}:${found.reference}`;
      if (!known) return { entry, reasons, unresolved: { path: walked, entry: found } };
      entry = known;
    }
    note();
  }
  return { entry, reasons, unresolved: undefined };

  function note(): void {
    if (!('link' in entry)) return;
    const { link } = entry;
    const came = listProvenances(store, link);
    const imported = findImport(store, link);
    // As what the tree says that it is, before all else that it is as well.
    came.sort((a, b) => Number(b.reference === wanted) - Number(a.reference === wanted));
    reasons.unshift(...came.map((how) => ({ path: walked, link, how })));
    // What came from an origin is among the imports as well.
    if (came.length === 0 && imported) {
      const { source: reference, time } = imported;
      reasons.unshift({ path: walked, link, how: { from: 'import', reference, time } });
    }
  }

  async function resolved(origin: OriginEntry): Promise<Entry | undefined> {
    try {
      return await source.resolveOrigin?.(origin, options);
    } catch (error) {
      options?.signal?.throwIfAborted();
      if ((error as LazytreeError).code === 'NETWORK') return undefined;
      throw error;
    }
  }
}
