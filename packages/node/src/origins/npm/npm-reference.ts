import { LazytreeError } from '@lazytree/core/errors';
import npa, { type Result } from 'npm-package-arg';
import semver from 'semver';
import type { OriginReading } from '../driver.js';

/** What a reference of the driver `npm` can be, as npm itself takes it. */
export type NpmReference = (
  | /** `wanted` is a version, a range or a tag; `exact` says that it is a version. */
  { kind: 'registry'; name: string; wanted: string; exact: boolean }
  /** A tarball anywhere. */
  | { kind: 'remote'; url: string }
  /** A tarball on this machine, by its absolute path. */
  | { kind: 'file'; path: string }
  /** `url` without what follows a hash, which is `committish`: a branch, a tag, a commit, or nothing for the default. */
  | { kind: 'git'; url: string; committish: string }
) & {
  /** Commands of the package that npm does not link where it is installed. */
  unlinked?: Unlinked;
};

/** Their files keep their first line, and are executable as they were packed, or because a registry said what they are. */
export interface Unlinked {
  commands: readonly string[];
  executable: boolean;
}

const UNLINKED = /#(unlinked|packed)=([^#]+)$/;

const HINT = 'write it as NAME, NAME@RANGE, @SCOPE/NAME@TAG, or the URL of a tarball';

/**
 * `NAME@RANGE/path` is a path in a package, which npm would take for a repository of GitHub. Tarballs, URLs and aliases are as
 * npm has them.
 */
export function npmReadings(text: string): OriginReading[] {
  const [, reference, path] = /^((?:@[^/@:#]+\/)?[^./@:#~][^/@:#]*(?:@[^/:#]*)?)\/(.*)$/s.exec(text) ?? [];
  if (reference === undefined || /\.(?:tgz|tar\.gz|tar)$/i.test(text)) return [{ reference: text, path: '' }];
  return [{ reference, path }];
}

/** @throws LazytreeError USAGE */
export function parseNpmReference(text: string, directory: string): NpmReference {
  const marked = UNLINKED.exec(text);
  if (!marked) return parsePlain(text, directory);
  const reference = parsePlain(text.slice(0, marked.index), directory);
  const commands = [...new Set(marked[2].split(',').map(decode))].sort();
  return { ...reference, unlinked: { commands, executable: marked[1] === 'unlinked' } };
}

function decode(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** What a lockfile has thousands of; npm's library takes its time for each. */
const VERSION_OF =
  /^((?:@[a-z\d][a-z\d._-]*\/)?[a-z\d][a-z\d._-]*)@((?:0|[1-9]\d{0,9})\.(?:0|[1-9]\d{0,9})\.(?:0|[1-9]\d{0,9}))$/;
/** npm does not take these for packages, nor names that are longer. */
const NO_NAMES = new Set(['node_modules', 'favicon.ico']);
const MAX_NAME = 214;

function parsePlain(text: string, directory: string): NpmReference {
  const [, name, version] = VERSION_OF.exec(text) ?? [];
  if (name !== undefined && name.length <= MAX_NAME && !NO_NAMES.has(name))
    return { kind: 'registry', name, wanted: version, exact: true };
  const spec = understand(text, directory);
  switch (spec.type) {
    case 'version':
    case 'range':
    case 'tag':
      return registryReference(spec);
    case 'alias':
      return registryReference(spec.subSpec as Result);
    case 'remote':
      return { kind: 'remote', url: withoutHash(publicUrl(spec.fetchSpec as string)) };
    case 'file':
      return { kind: 'file', path: spec.fetchSpec as string };
    case 'git':
      return gitReference(spec);
    case 'directory':
      throw new LazytreeError('USAGE', `npm:${text} is a directory, not a package of a registry`, {
        hint: 'use dir:PATH for a directory',
      });
  }
}

export function formatNpmReference(reference: NpmReference): string {
  return formatPlain(reference) + formatUnlinked(reference.unlinked);
}

/** What follows a reference when npm does not link some of the commands. */
export function formatUnlinked(unlinked: Unlinked | undefined): string {
  if (!unlinked || unlinked.commands.length === 0) return '';
  const names = [...unlinked.commands].sort().map(encodeURIComponent).join(',');
  return `#${unlinked.executable ? 'unlinked' : 'packed'}=${names}`;
}

function formatPlain(reference: NpmReference): string {
  switch (reference.kind) {
    case 'registry':
      return `${reference.name}@${reference.wanted}`;
    case 'remote':
      return reference.url;
    case 'file':
      return `file:${reference.path}`;
    case 'git': {
      const url = `git+${reference.url}`;
      return reference.committish === '' ? url : `${url}#${reference.committish}`;
    }
  }
}

function understand(text: string, directory: string): Result {
  if (text.trim() === '')
    throw new LazytreeError('USAGE', 'npm: is without the name of a package', { hint: HINT });
  try {
    return npa(text.trim(), directory);
  } catch (cause) {
    throw new LazytreeError('USAGE', `npm:${text} is no package that npm knows how to name`, {
      cause,
      hint: HINT,
    });
  }
}

function registryReference({ name, type, fetchSpec }: Result): NpmReference {
  if (!name) throw new LazytreeError('USAGE', 'npm: is without the name of a package', { hint: HINT });
  if (type === 'version') {
    const version = semver.clean(fetchSpec as string, { loose: true }) ?? (fetchSpec as string);
    return { kind: 'registry', name, wanted: version, exact: true };
  }
  return { kind: 'registry', name, wanted: fetchSpec as string, exact: false };
}

function gitReference({ hosted, fetchSpec, gitCommittish, gitRange, gitSubdir }: Result): NpmReference {
  if (gitSubdir) {
    throw new LazytreeError('UNSUPPORTED', 'a package in a subdirectory of a git repository', {
      hint: 'use git: for the repository, and the path in it',
    });
  }
  const url = (hosted?.https({ noCommittish: true }) ?? (fetchSpec as string)).replace(/^git\+/, '');
  const committish = gitRange ? `semver:${gitRange}` : (gitCommittish ?? '');
  return { kind: 'git', url: withoutHash(publicUrl(url)), committish };
}

/**
 * References are written down and shown to others, so that nothing secret may be in one.
 *
 * @throws LazytreeError USAGE
 */
export function publicUrl(text: string): string {
  if (!URL.canParse(text)) return text;
  const url = new URL(text);
  const isUserOfSsh = url.password === '' && url.protocol !== 'http:' && url.protocol !== 'https:';
  if (isUserOfSsh || (url.username === '' && url.password === '')) return text;
  throw new LazytreeError('USAGE', `a URL with credentials in it, of ${url.host}, cannot be a reference`, {
    hint: `put them into .npmrc, as //${url.host}/:_authToken=…`,
  });
}

function withoutHash(url: string): string {
  const hash = url.indexOf('#');
  return hash < 0 ? url : url.slice(0, hash);
}
