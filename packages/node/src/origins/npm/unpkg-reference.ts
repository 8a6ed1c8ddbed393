import { LazytreeError } from '@lazytree/core/errors';
import npa, { type Result } from 'npm-package-arg';
import semver from 'semver';

/** A package, or a file or directory in one. */
export interface UnpkgReference {
  name: string;
  /** A version, a range or a tag. */
  wanted: string;
  exact: boolean;
  /** In the package, without a slash at either end; empty for all of it. */
  path: string;
}

const HINT = 'write it as unpkg:NAME@VERSION, or unpkg:NAME@VERSION/PATH';

/** @throws LazytreeError USAGE */
export function parseUnpkgReference(text: string): UnpkgReference {
  const [, packed = '', path = ''] = /^((?:@[^/]+\/)?[^/]+)(?:\/(.*))?$/s.exec(text.trim()) ?? [];
  const names = path.split('/').filter((name) => name !== '');
  if (names.some((name) => name === '.' || name === '..' || name.includes('\0')))
    throw new LazytreeError('USAGE', `unpkg:${text} leads out of the package`, { hint: HINT });
  const { name, type, fetchSpec } = understand(packed, text);
  if (!name || (type !== 'version' && type !== 'range' && type !== 'tag'))
    throw new LazytreeError('USAGE', `unpkg:${text} is no package`, { hint: HINT });
  const exact = type === 'version';
  const wanted = exact ? (semver.clean(fetchSpec as string, { loose: true }) ?? fetchSpec) : fetchSpec;
  return { name, wanted: wanted as string, exact, path: names.join('/') };
}

export function formatUnpkgReference({ name, wanted, path }: UnpkgReference): string {
  return path === '' ? `${name}@${wanted}` : `${name}@${wanted}/${path}`;
}

function understand(packed: string, text: string): Result {
  try {
    return npa(packed);
  } catch (cause) {
    throw new LazytreeError('USAGE', `unpkg:${text} is no package`, { cause, hint: HINT });
  }
}
