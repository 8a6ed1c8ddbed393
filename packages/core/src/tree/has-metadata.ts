import type { Link } from '../format/link.js';
import type { BlockSource } from '../store/block-store.js';
import { readDirectory } from './directory.js';

/** Whether a tree was imported with `--preserve`; then every entry of its root has metadata, but for origins. */
export async function hasMetadata(store: BlockSource, root: Link): Promise<boolean> {
  for await (const { kind, metadata } of readDirectory(store, root)) {
    if (kind !== 'origin') return metadata !== undefined;
  }
  return false;
}
