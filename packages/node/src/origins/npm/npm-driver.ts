import { LazytreeError } from '@lazytree/core/errors';
import type { OriginContent, OriginContext, OriginDriver, OriginPin } from '../driver.js';
import { copyTarball, downloadTarball, type Tarball } from './download.js';
import { fetchGitPackage, pinGitPackage } from './git-package.js';
import { readNpmConfig } from './npm-config.js';
import { formatNpmReference, type NpmReference, npmReadings, parseNpmReference } from './npm-reference.js';
import { createPlaces } from './places.js';
import { atConfiguredRegistry, findVersion, registryOf, usualTarball } from './registry-package.js';
import { type PackageManifest, unpackPackage } from './unpack-package.js';
import { THREADS, unpackInThread } from './unpack-threads.js';

type OfRegistry = NpmReference & { kind: 'registry' };

/** Packages that are on their way at a time: what of them waits in memory is bounded. */
const packages = createPlaces(32);
/** Tarballs that are unpacked at a time, one at work and one waiting for each thread; others wait, as they came. */
const unpackers = createPlaces(2 * THREADS);
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
  const tarball = await tarballOf(reference, asked, context);
  try {
    return await unpackers(() => unpack(tarball, reference, context), context);
  } finally {
    await tarball.release();
  }
}

async function pinVersion(reference: OfRegistry, context: OriginContext): Promise<OriginPin> {
  const { name, version, integrity, tarball } = await findVersion(reference, context);
  const registry = registryOf(name, await readNpmConfig(context));
  tarballs.set(`${registry} ${name}@${version}`, tarball);
  if (tarballs.size > MAX_KNOWN) tarballs.delete(tarballs.keys().next().value as string);
  const pinned = formatNpmReference({ ...reference, name, wanted: version, exact: true });
  return { reference: pinned, ...(integrity && { integrity }) };
}

async function tarballOf(
  reference: Exclude<NpmReference, { kind: 'git' }>,
  pin: OriginPin,
  context: OriginContext,
): Promise<Tarball> {
  const { integrity } = pin;
  if (reference.kind === 'file') return copyTarball(reference.path, { integrity, context });
  const config = await readNpmConfig(context);
  const get = (url: string) => downloadTarball({ url, what: pin.reference, config, context }, integrity);
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

async function unpack(
  tarball: Tarball,
  reference: NpmReference,
  context: OriginContext,
): Promise<OriginContent> {
  const { unlinked } = reference;
  const { content, integrity } = tarball;
  const { signal } = context;
  const what = formatNpmReference({ ...reference, unlinked: undefined });
  const found = Buffer.isBuffer(content)
    ? await unpackInThread({ tarball: content, what, unlinked })
    : undefined;
  signal.throwIfAborted();
  if (found) {
    const { entry, records, scripts } = found;
    await context.addRecords(Buffer.from(records.buffer, records.byteOffset, records.length));
    return { entry, integrity, notes: notesOf({ scripts }, what) };
  }
  const tree = context.newTree();
  try {
    const manifest = await unpackPackage(tree, content, { what, signal, unlinked });
    return { entry: await tree.finish(), integrity, notes: notesOf(manifest, what) };
  } catch (error) {
    tree.abort();
    throw error;
  }
}

function notesOf({ scripts }: PackageManifest = {}, what: string): string[] {
  if (typeof scripts !== 'object' || scripts === null) return [];
  const there = ['preinstall', 'install', 'postinstall'].filter((name) => typeof scripts[name] === 'string');
  return there.length === 0 ? [] : [`${what} has install scripts (${there.join(', ')}) that were not run`];
}
