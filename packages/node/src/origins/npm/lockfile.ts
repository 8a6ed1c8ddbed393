import { LazytreeError } from '@lazytree/core/errors';

/** A package-lock.json of version 2 or 3. What is in it may be anything: what is used of it has been looked at. */
export interface Lockfile {
  /** Of its own text: what its lines begin with, and how they end. */
  indent: string | number;
  newline: string;
  /** All of it as it was read. */
  data: Readonly<Record<string, unknown>>;
  /** By location: `''` for the project, `node_modules/a/node_modules/b`, `packages/c` for a workspace. */
  packages: ReadonlyMap<string, LockedPackage>;
}

export interface LockedPackage {
  location: string;
  /** What it is called where it is: `@scope/name` or `name`; the last part of its path where it is not in node_modules. */
  installedName: string;
  /** The entry as it was read. */
  raw: Readonly<Record<string, unknown>>;
  /** Of the package itself; another one than `installedName` for an alias. */
  name: string;
  version?: string;
  resolved?: string;
  integrity?: string;
  link: boolean;
  inBundle: boolean;
  hasInstallScript: boolean;
  dev: boolean;
  optional: boolean;
  devOptional: boolean;
  peer: boolean;
}

/** The newest version that is known. */
const NEWEST = 3;
const MAX_PACKAGES = 1_000_000;

/**
 * @param what its path, for errors
 * @throws LazytreeError UNSUPPORTED for lockfiles of other kinds, CORRUPT
 */
export function readLockfile(text: string, what: string): Lockfile {
  const data = parse(text.replace(/^\uFEFF/, ''), what);
  const [, newline = '\n', indent = ''] = /^\s*\{((?:\r?\n)+)([ \t]*)/.exec(text) ?? [];
  if (!isObject(data.packages)) {
    if (data.lockfileVersion === undefined && !isObject(data.dependencies)) throw noLockfile(what);
    throw new LazytreeError(
      'UNSUPPORTED',
      `${what} is a lockfile of version ${Number(data.lockfileVersion ?? 1)}`,
      {
        hint: 'run `npm install --package-lock-only` with npm 7 or later, which writes it anew as version 3',
      },
    );
  }
  if (Number(data.lockfileVersion ?? 3) > NEWEST) {
    throw new LazytreeError('UNSUPPORTED', `${what} is a lockfile of version ${data.lockfileVersion}`, {
      hint: `run \`npm install --package-lock-only --lockfile-version ${NEWEST}\`, which writes it anew`,
    });
  }
  const entries = Object.entries(data.packages);
  if (entries.length > MAX_PACKAGES) throw new LazytreeError('UNSUPPORTED', `${what} has too many packages`);
  const packages = new Map<string, LockedPackage>();
  for (const [location, raw] of entries) {
    if (!isObject(raw)) throw damaged(what, `${shown(location)} is no object`);
    const installedName = nameAt(location);
    if (installedName === undefined) throw damaged(what, `${shown(location)} is no place for a package`);
    if ([raw.name, raw.version, raw.resolved, raw.integrity].some(hasControls))
      throw damaged(what, `${shown(location)} has line breaks, or the like, where there can be none`);
    packages.set(location, readPackage(raw, { location, installedName }));
  }
  return { indent: indent === '' ? 2 : indent, newline, data, packages };
}

function parse(text: string, what: string): Record<string, unknown> {
  if (/^lockfileVersion:/m.test(text.slice(0, 4096)) && !text.trimStart().startsWith('{'))
    throw ofOthers(what, 'pnpm');
  if (/^(?:# yarn lockfile v|__metadata:)/m.test(text.slice(0, 4096))) throw ofOthers(what, 'Yarn');
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (cause) {
    if (/^<{7} /m.test(text)) {
      throw new LazytreeError('CORRUPT', `${what} has conflicts of a merge in it`, {
        hint: 'run `npm install`, which resolves them',
      });
    }
    throw new LazytreeError('CORRUPT', `${what} is not JSON`, { cause, hint: 'name a package-lock.json' });
  }
  if (!isObject(data)) throw noLockfile(what);
  return data;
}

export function ofOthers(what: string, whose: string): LazytreeError {
  return new LazytreeError(
    'UNSUPPORTED',
    `${what} is a lockfile of ${whose}, which lays out node_modules in other ways`,
    {
      hint: `install with ${whose} once and import node_modules, or write a package-lock.json with \`npm install --package-lock-only\``,
    },
  );
}

function noLockfile(what: string): LazytreeError {
  return new LazytreeError('CORRUPT', `${what} is no lockfile of npm`, { hint: 'name a package-lock.json' });
}

function damaged(what: string, how: string): LazytreeError {
  return new LazytreeError('CORRUPT', `${what} is damaged: ${how}`, {
    hint: 'remove it, and write it anew with `npm install --package-lock-only`',
  });
}

/** The name of what is installed at a location, or undefined when it cannot be one. */
function nameAt(location: string): string | undefined {
  if (location === '') return '';
  if (location.startsWith('/') || hasControls(location) || location.includes('//')) return undefined;
  const names = location.split('/');
  const at = names.lastIndexOf('node_modules');
  if (at < 0) return names.at(-1);
  const below = names.slice(at + 1);
  if (below.some((name) => name === '' || name === '.' || name === '..')) return undefined;
  const modules = names.indexOf('node_modules');
  if (names.slice(modules).includes('..')) return undefined;
  const isName = below[0]?.startsWith('@') ? below.length === 2 : below.length === 1;
  // A workspace can be in a directory of that name, though nothing is installed at it.
  return isName && below[0] !== '.bin' ? below.join('/') : undefined;
}

function readPackage(
  raw: Record<string, unknown>,
  { location, installedName }: { location: string; installedName: string },
): LockedPackage {
  return {
    location,
    installedName,
    raw,
    name: text(raw.name) ?? installedName,
    version: text(raw.version),
    resolved: text(raw.resolved),
    integrity: text(raw.integrity),
    link: raw.link === true,
    inBundle: raw.inBundle === true,
    hasInstallScript: raw.hasInstallScript === true,
    dev: raw.dev === true,
    optional: raw.optional === true,
    devOptional: raw.devOptional === true,
    peer: raw.peer === true,
  };
}

function shown(location: string): string {
  return JSON.stringify(location.slice(0, 200));
}

/** What has them would break lines, or do worse, where it is shown. */
function hasControls(value: unknown): boolean {
  return typeof value === 'string' && /\p{Cc}/u.test(value);
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
