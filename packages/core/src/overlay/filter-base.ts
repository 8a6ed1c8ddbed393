import { encodeDirectory } from '../format/directory-node.js';
import type { DirectoryEntry, Entry } from '../format/entry.js';
import type { BlockSink } from '../import/block-sink.js';
import type { IgnoreRules } from '../import/ignore.js';
import { IGNORE_FILE } from '../import/ignore-file.js';
import type { BaseTree } from './base-tree.js';

interface AppliedRules {
  /** Where the entries are seen. */
  path: string;
  /** Those in force there. */
  rules: IgnoreRules;
  tree: Pick<BaseTree, 'rulesText' | 'listBelow'>;
  sink: Pick<BlockSink, 'putNodes'>;
}

/** What ignore rules leave of some entries of a tree and of what is below them, as if they were imported. */
export async function applyRules(entries: readonly Entry[], applied: AppliedRules): Promise<Entry[]> {
  const { path, rules } = applied;
  const kept: Entry[] = [];
  for (const entry of entries) {
    const inner = path === '' ? entry.name : `${path}/${entry.name}`;
    const isDirectory = entry.kind === 'directory' || (entry.kind === 'origin' && entry.of === 'directory');
    if (rules.ignores(inner, isDirectory)) continue;
    kept.push(entry.kind === 'directory' ? await applyBelow(entry, { ...applied, path: inner }) : entry);
  }
  return kept;
}

async function applyBelow(entry: DirectoryEntry, applied: AppliedRules): Promise<DirectoryEntry> {
  const { path, rules, tree, sink } = applied;
  const entries = await tree.listBelow(entry);
  const text = await tree.rulesText(entries.find(({ name }) => name === IGNORE_FILE));
  const kept = await applyRules(entries, { ...applied, rules: rules.enter(path, text) });
  if (kept.length === entries.length && kept.every((item, i) => item === entries[i])) return entry;
  const { nodes, link, size, files } = encodeDirectory(kept);
  await sink.putNodes(nodes);
  return { ...entry, link, size, files };
}
