import stringify from 'json-stringify-nice';
import type { LockedPackage, Lockfile } from './lockfile.js';

/** Where it is, beside the packages. */
export const HIDDEN_LOCKFILE = '.package-lock.json';

const FIRST = [
  'name',
  'version',
  'lockfileVersion',
  'resolved',
  'integrity',
  'requires',
  'packages',
  'dependencies',
];
/** What npm says of a package in it. */
const KEPT = [
  'version',
  'dependencies',
  'peerDependencies',
  'peerDependenciesMeta',
  'optionalDependencies',
  'bundleDependencies',
  'acceptDependencies',
  'devDependencies',
  'funding',
  'engines',
  'os',
  'cpu',
  'libc',
  'license',
  'hasInstallScript',
  'hasShrinkwrap',
  'bin',
  'deprecated',
  'workspaces',
  'name',
  'resolved',
  'link',
  'integrity',
  'inBundle',
  'extraneous',
  'peer',
  'dev',
  'optional',
  'devOptional',
];

/** What npm leaves in node_modules to know the next time what is there. */
export function hiddenLockfile(lockfile: Lockfile, installed: readonly LockedPackage[]): string {
  const { packages: _, dependencies: __, ...rest } = lockfile.data;
  const packages: Record<string, unknown> = {};
  for (const { location, raw } of installed) {
    if (location === '') continue;
    const kept: Record<string, unknown> = {};
    for (const key of KEPT) if (isWorthKeeping(raw[key])) kept[key] = raw[key];
    packages[location] = kept;
  }
  const text = stringify({ ...rest, lockfileVersion: 3, packages }, FIRST, lockfile.indent);
  return lockfile.newline === '\n' ? text : text.replaceAll('\n', lockfile.newline);
}

function isWorthKeeping(value: unknown): boolean {
  if (!value) return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}
