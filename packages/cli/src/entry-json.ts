import { type Entry, formatLink } from '@lazytree/core';

/** An entry as `--json` shows it. A byte of a name that is not UTF-8 is a lone surrogate, U+DC00 + byte. */
export function entryJson(entry: Entry): Record<string, unknown> {
  const common: Record<string, unknown> = { name: entry.name, kind: entry.kind };
  if (entry.metadata) common.metadata = entry.metadata;
  switch (entry.kind) {
    case 'file':
    case 'executable':
      return { ...common, cid: formatLink(entry.link), size: entry.size };
    case 'directory':
      return { ...common, cid: formatLink(entry.link), size: entry.size, files: entry.files };
    case 'symlink':
      return { ...common, target: entry.target };
    case 'origin': {
      const { of, driver, reference, integrity, plus } = entry;
      return { ...common, of, driver, reference, integrity, plus: plus && formatLink(plus) };
    }
  }
}

export function pathJson(path: string, entry: Entry): Record<string, unknown> {
  return { path, ...entryJson(entry) };
}
