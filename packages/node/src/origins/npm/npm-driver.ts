import { LazytreeError } from '@lazytree/core/errors';
import type { OriginContent, OriginContext, OriginDriver, OriginPin } from '../driver.js';
import { asTarball, copyTarball, downloadTarball, type Tarball } from './download.js';
import { fetchGitPackage, pinGitPackage } from './git-package.js';
import { type NpmConfig, readNpmConfig } from './npm-config.js';
import {
  formatNpmReference,
  type NpmReference,
  npmReadings,
  parseNpmReference,
  type Unlinked,
} from './npm-reference.js';
import { fetchInThread } from './package-threads.js';
import { createPlaces } from './places.js';
import { atConfiguredRegistry, findVersion, registryOf, usualTarball } from './registry-package.js';
import type { RegistryRequest } from './registry-request.js';
import { type PackageManifest, unpackPackage } from './unpack-package.js';

type OfRegistry = NpmReference & { kind: 'registry' };

/** Packages that are on their way at a time: what of them waits in memory is bounded. */
const packages = createPlaces(32);
/** Tarballs that are unpacked in this thread at a time; others wait, as they came. */
const unpackers = createPlaces(2);
/** Where registries have said that tarballs are, by registry and package; most are in the usual place. */
const tarballs = new Map<string, string>();
const MAX_KNOWN = 4096;

/**
 * Packages as npm installs them: of a registry, as a tarball anywhere, or of a git repository. No script of theirs is run.
 */
export const driver: OriginDriver = {
  name: 'npm',
  summary: 'npm:NAME[@RANGE|@TAG], a package of a registry as npm unpacks it; also the URL of a tarball',
  parse: (text, { directory }) => formatNpmReference(parseNpmReference(text, directory)),
  readings: npmReadings,
  needsNoNetwork: (reference) => reference.startsWith('file:'),
  async pin(text, context) {
    const reference = parseNpmReference(text, context.directory);
    if (reference.kind === 'registry') return pinVersion(reference, context);
    if (reference.kind === 'git') return pinGitPackage(reference, context);
    return { reference: formatNpmReference(reference) };
  },
  fetch: (pin, context) => packages(() => fetchPackage(pin, context), context),
};

async function fetchPackage(asked: OriginPin, context: OriginContext): Promise<OriginContent> {
  const reference = parseNpmReference(asked.reference, context.directory);
  if (reference.kind === 'git') return fetchGitPackage(reference, context);
  if (reference.kind === 'registry' && !reference.exact) {
    const { integrity = asked.integrity } = asked;
    const pinned = await pinVersion(reference, context);
    return fetchPackage({ ...pinned, ...(integrity && { integrity }) }, context);
  }
  const what = formatNpmReference({ ...reference, unlinked: undefined });
  const { unlinked } = reference;
  const { integrity } = asked;
  if (reference.kind === 'file') {
    return unpack(await copyTarball(reference.path, { integrity, context }), { what, unlinked, context });
  }
  const config = await readNpmConfig(context);
  return fromPlaceOf(reference, { config, context }, (url) =>
    fetchTarball({ url, what, config, context }, { integrity, unlinked }),
  );
}

async function pinVersion(reference: OfRegistry, context: OriginContext): Promise<OriginPin> {
  const { name, version, integrity, tarball } = await findVersion(reference, context);
  const registry = registryOf(name, await readNpmConfig(context));
  tarballs.set(`${registry} ${name}@${version}`, tarball);
  if (tarballs.size > MAX_KNOWN) tarballs.delete(tarballs.keys().next().value as string);
  const pinned = formatNpmReference({ ...reference, name, wanted: version, exact: true });
  return { reference: pinned, ...(integrity && { integrity }) };
}

/** Gets a tarball from where it is. */
async function fromPlaceOf<T>(
  reference: Extract<NpmReference, { kind: 'registry' | 'remote' }>,
  { config, context }: { config: NpmConfig; context: OriginContext },
  get: (url: string) => Promise<T>,
): Promise<T> {
  if (reference.kind === 'remote') return get(atConfiguredRegistry(reference.url, config));
  const { name, wanted: version } = reference;
  const registry = registryOf(name, config);
  const usual = usualTarball(registry, { name, version });
  const known = tarballs.get(`${registry} ${name}@${version}`);
  if (known !== undefined) return get(atConfiguredRegistry(known, config));
  try {
    return await get(usual);
  } catch (error) {
    if (!(error instanceof LazytreeError) || (error.code !== 'NOT_FOUND' && error.code !== 'REFUSED'))
      throw error;
    const { tarball } = await findVersion(reference, context);
    if (tarball === usual) throw error;
    return get(atConfiguredRegistry(tarball, config));
  }
}

async function fetchTarball(
  request: RegistryRequest & { context: OriginContext },
  { integrity, unlinked }: { integrity: string | undefined; unlinked: Unlinked | undefined },
): Promise<OriginContent> {
  const { what, context } = request;
  const fetched = await fetchInThread(request, { integrity, unlinked });
  if (!fetched) return unpack(await downloadTarball(request, integrity), { what, unlinked, context });
  const { content, integrity: found } = fetched;
  if (typeof content === 'string' || content instanceof Uint8Array) {
    const whole = typeof content === 'string' ? content : asBuffer(content);
    return unpack(asTarball({ content: whole, integrity: found }), { what, unlinked, context });
  }
  const { entry, records, scripts } = content;
  await context.addRecords(asBuffer(records));
  return { entry, integrity: found, notes: notesOf({ scripts }, what) };
}

function asBuffer({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length);
}

interface UnpackOptions {
  what: string;
  unlinked: Unlinked | undefined;
  context: OriginContext;
}

/** Unpacks it here, in turn. */
async function unpack(
  { content, integrity, release }: Tarball,
  { what, unlinked, context }: UnpackOptions,
): Promise<OriginContent> {
  const { signal } = context;
  try {
    return await unpackers(async () => {
      const tree = context.newTree();
      try {
        const manifest = await unpackPackage(tree, content, { what, signal, unlinked });
        return { entry: await tree.finish(), integrity, notes: notesOf(manifest, what) };
      } catch (error) {
        tree.abort();
        throw error;
      }
    }, context);
  } finally {
    await release();
  }
}

function notesOf({ scripts }: PackageManifest = {}, what: string): string[] {
  if (typeof scripts !== 'object' || scripts === null) return [];
  const there = ['preinstall', 'install', 'postinstall'].filter((name) => typeof scripts[name] === 'string');
  return there.length === 0 ? [] : [`${what} has install scripts (${there.join(', ')}) that were not run`];
}
