import { LazytreeError } from '@lazytree/core/errors';
import pickManifest from 'npm-pick-manifest';
import registryFetch from 'npm-registry-fetch';
import defaults from 'npm-registry-fetch/lib/default-opts.js';
import semver from 'semver';
import ssri from 'ssri';
import type { OriginContext } from '../driver.js';
import { type NpmConfig, readNpmConfig } from './npm-config.js';
import { readJson } from './registry-request.js';

export interface PackageVersion {
  name: string;
  version: string;
  integrity?: string;
  tarball: string;
}

/** All that an installation needs, without the readmes, where the registry knows the difference. */
const ABBREVIATED = 'application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*';
const FULL = 'application/json';

/**
 * Asks the registry that the caller's configuration names which version is meant, as npm chooses it.
 *
 * @param wanted a version, a range or a tag
 * @throws LazytreeError NOT_FOUND, REFUSED, NETWORK
 */
export async function findVersion(
  { name, wanted }: { name: string; wanted: string },
  context: OriginContext,
): Promise<PackageVersion> {
  const config = await readNpmConfig(context);
  const registry = registryOf(name, config);
  const what = `${name}@${wanted}`;
  const url = `${registry}${name.replace('/', '%2f')}`;
  // The time of versions is in the full description alone.
  const accept = config.before ? FULL : ABBREVIATED;
  context.onProgress({ doing: `looking up ${what}`, bytes: 0 });
  const packument = await readJson({ url, what: name, config, context }, accept);
  return versionOf(pick(packument, what, { wanted, config }), { name, registry });
}

/** By scope, for each configuration that is in use: a thousand packages are of few scopes. */
const registries = new WeakMap<NpmConfig, Map<string, string>>();

/** With a slash at its end. */
export function registryOf(name: string, config: NpmConfig): string {
  const byScope = registries.get(config) ?? new Map<string, string>();
  registries.set(config, byScope);
  const scope = name.startsWith('@') ? name.slice(0, name.indexOf('/')) : '';
  const known = byScope.get(scope);
  if (known !== undefined) return known;
  const registry = registryFetch.pickRegistry(name, config).replace(/\/*$/, '/');
  byScope.set(scope, registry);
  return registry;
}

/** Where registries have a tarball, unless they say otherwise. */
export function usualTarball(registry: string, { name, version }: { name: string; version: string }): string {
  return `${registry}${name}/-/${name.slice(name.indexOf('/') + 1)}-${version}.tgz`;
}

/** The public registry stands for the one that is configured, as npm has it unless it is told otherwise. */
export function atConfiguredRegistry(url: string, config: NpmConfig): string {
  const { replaceRegistryHost: replaced = 'npmjs' } = config;
  const { host, pathname } = new URL(url);
  const isMeant =
    replaced === 'always' ||
    replaced === host ||
    (replaced === 'npmjs' && host === new URL(defaults.registry).host);
  if (replaced === 'never' || !isMeant) return url;
  const registry = typeof config.registry === 'string' ? config.registry : defaults.registry;
  return new URL(pathname.slice(1), registry.replace(/\/*$/, '/')).href;
}

function pick(packument: unknown, what: string, { wanted, config }: { wanted: string; config: NpmConfig }) {
  try {
    return pickManifest(packument, wanted, config);
  } catch (cause) {
    const { code, versions } = cause as { code?: unknown; versions?: unknown };
    if (code === 'E403') {
      throw new LazytreeError('REFUSED', `the registry does not give ${what}`, {
        cause,
        hint: 'ask for another version, or those who run the registry',
      });
    }
    throw new LazytreeError('NOT_FOUND', `there is no version ${what}`, {
      cause,
      hint: hintOf(packument, versions),
    });
  }
}

function hintOf(packument: unknown, versions: unknown): string {
  const tags = (packument as { 'dist-tags'?: Record<string, unknown> } | null)?.['dist-tags'];
  const latest = tags?.latest;
  if (typeof latest === 'string') return `ask for another one; the latest is ${latest.slice(0, 100)}`;
  return Array.isArray(versions) && versions.length > 0
    ? 'ask for another one'
    : 'it has none: ask for another package';
}

/** What a registry says is not to be trusted. */
function versionOf(
  { version, dist = {} }: ReturnType<typeof pickManifest>,
  { name, registry }: { name: string; registry: string },
): PackageVersion {
  const { tarball = usualTarball(registry, { name, version }), integrity, shasum } = dist;
  const isSound =
    semver.valid(version, { loose: true }) !== null && /^https?:/.test(tarball) && URL.canParse(tarball);
  if (!isSound) {
    throw new LazytreeError('CORRUPT', `what the registry says of ${name} makes no sense`, {
      hint: 'look at which registry .npmrc names for it',
    });
  }
  const known = integrity ?? (shasum ? ssri.fromHex(shasum, 'sha1').toString() : undefined);
  return { name, version, tarball, ...(known && { integrity: known }) };
}
