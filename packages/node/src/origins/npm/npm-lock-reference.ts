import { resolve } from 'node:path';
import { LazytreeError } from '@lazytree/core/errors';
import { currentEnv } from 'npm-install-checks';

/** Kinds of dependencies that can be left out. */
export type Omitted = 'dev' | 'optional' | 'peer';

/** Which lockfile, and what is installed of it. */
export interface NpmLockReference {
  /** Absolute; of the file, or of the directory that it is in. */
  path: string;
  omit: readonly Omitted[];
  /** The workspace whose own `node_modules` is meant, by its path from the lockfile; empty for the one beside it. */
  workspace: string;
  /** For which machine optional packages are chosen. What is not given is that of this one. */
  os?: string;
  cpu?: string;
  libc?: string;
  /** A version. */
  node?: string;
}

const OMITTED = ['dev', 'optional', 'peer'] as const;
const OPTIONS = ['omit', 'workspace', 'os', 'cpu', 'libc', 'node'] as const;
const HINT =
  'write it as npm-lock:PATH or npm-lock:PATH?omit=dev,optional&os=linux&cpu=x64&libc=glibc&node=22.0.0&workspace=PATH';

/** @throws LazytreeError USAGE */
export function parseNpmLockReference(text: string, directory: string): NpmLockReference {
  const [, path = '', query = ''] = /^(.*?)(?:\?([a-z]+=.*))?$/s.exec(text) ?? [];
  if (path === '')
    throw new LazytreeError('USAGE', 'npm-lock: is without the path of a lockfile', { hint: HINT });
  const given = new URLSearchParams(query);
  for (const name of given.keys()) {
    if (!OPTIONS.includes(name as (typeof OPTIONS)[number]))
      throw new LazytreeError('USAGE', `npm-lock: has no option '${name}'`, { hint: HINT });
  }
  const named = given.getAll('omit').flatMap((list) => list.split(',').filter((kind) => kind !== ''));
  const wrong = named.find((kind) => !OMITTED.includes(kind as Omitted));
  if (wrong !== undefined)
    throw new LazytreeError('USAGE', `npm-lock: cannot omit '${wrong}'`, {
      hint: 'dev, optional and peer it can',
    });
  return {
    path: resolve(directory, path),
    omit: OMITTED.filter((kind) => named.includes(kind)),
    workspace: workspaceOf(given.get('workspace') ?? ''),
    ...optional('os', given.get('os')),
    ...optional('cpu', given.get('cpu')),
    ...optional('libc', given.get('libc')),
    ...optional('node', given.get('node')?.replace(/^v/, '')),
  };
}

export function formatNpmLockReference(reference: NpmLockReference): string {
  const query = new URLSearchParams();
  if (reference.omit.length > 0) query.set('omit', reference.omit.join(','));
  for (const name of ['workspace', 'os', 'cpu', 'libc', 'node'] as const) {
    const value = reference[name];
    if (value !== undefined && value !== '') query.set(name, value);
  }
  // Commas, slashes and at signs are meant to be read.
  const text = query.toString().replaceAll('%2C', ',').replaceAll('%2F', '/').replaceAll('%40', '@');
  return text === '' ? reference.path : `${reference.path}?${text}`;
}

/** With what this machine is, where it says nothing of it. A libc that there is none of is `none`. */
export function forThisMachine(reference: NpmLockReference): Required<NpmLockReference> {
  const os = reference.os ?? currentEnv.os();
  return {
    ...reference,
    os,
    cpu: reference.cpu ?? currentEnv.cpu(),
    libc: reference.libc ?? currentEnv.libc(os) ?? 'none',
    node: reference.node ?? process.version.slice(1),
  };
}

function workspaceOf(path: string): string {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..'))
    throw new LazytreeError('USAGE', `npm-lock: the workspace '${path}' is outside of its project`, {
      hint: HINT,
    });
  return names.join('/');
}

function optional<K extends string>(name: K, value: string | null | undefined): Partial<Record<K, string>> {
  return (value ? { [name]: value } : {}) as Partial<Record<K, string>>;
}
