import { LazytreeError, nameFromBytes, nameProblem } from '@lazytree/core';

export type GitEntryKind = 'file' | 'executable' | 'symlink' | 'directory' | 'submodule';

export interface GitTreeEntry {
  name: string;
  kind: GitEntryKind;
  id: string;
}

const SPACE = 32;

/**
 * The entries of a tree object, as git would check them out.
 *
 * @throws LazytreeError CORRUPT for what git would not check out: impossible names, `.git`, a name that comes twice
 */
export function parseTreeObject(content: Buffer, idBytes: number): GitTreeEntry[] {
  const entries: GitTreeEntry[] = [];
  const names = new Set<string>();
  for (let at = 0; at < content.length; ) {
    const space = content.indexOf(SPACE, at);
    const end = space < 0 ? -1 : content.indexOf(0, space);
    if (end < 0 || end + 1 + idBytes > content.length) throw corrupt('a tree that is cut short');
    const written = content.toString('latin1', at, space);
    const mode = /^[0-7]{1,6}$/.test(written) ? Number.parseInt(written, 8) : 0;
    const kind = kindOf(mode);
    if (kind === undefined) throw corrupt('an entry of no kind that git knows');
    const name = nameFromBytes(content.subarray(space + 1, end));
    const problem = nameProblem(name) ?? (/^\.git$/i.test(name) ? "the name '.git'" : undefined);
    if (problem) throw corrupt(problem);
    if (names.has(name)) throw corrupt('a name twice in one directory');
    names.add(name);
    at = end + 1 + idBytes;
    const id = content.toString('hex', at - idBytes, at);
    entries.push({ name, kind, id });
  }
  return entries;
}

/** Of a file its owner's bit says whether it can be run, as git sees it. */
function kindOf(mode: number): GitEntryKind | undefined {
  switch (mode & 0o770000) {
    case 0o040000:
      return 'directory';
    case 0o100000:
      return (mode & 0o100) !== 0 ? 'executable' : 'file';
    case 0o120000:
      return 'symlink';
    case 0o160000:
      return 'submodule';
    default:
      return undefined;
  }
}

function corrupt(what: string): LazytreeError {
  return new LazytreeError('CORRUPT', `the repository has ${what}`, {
    hint: '`git fsck` in it says more',
  });
}
