import { createReadStream } from 'node:fs';
import { LazytreeError } from '@lazytree/core/errors';
import type { OriginContent, OriginContext, OriginDriver, OriginPin } from '../driver.js';
import { downloadTarball, type Tarball } from './download.js';
import { fetchGitPackage, pinGitPackage } from './git-package.js';
import { createIntegrityCheck } from './integrity.js';
import { readNpmConfig } from './npm-config.js';
import { formatNpmReference, type NpmReference, parseNpmReference } from './npm-reference.js';
import { createPlaces } from './places.js';
import { findVersion, registryOf, usualTarball } from './registry-package.js';
import { type PackageManifest, unpackPackage } from './unpack-package.js';

/** Tarballs that are unpacked at a time; others wait, as they came. */
const places = createPlaces(4);
/** Where registries have said that tarballs are, which most have in the usual place. */
const MAX_KNOWN = 4096;

/**
 * Packages as npm installs them: of a registry, as a tarball anywhere, or of a git repository. No script of theirs is run.
 */
export function createNpmDriver(): OriginDriver {
  const tarballs = new Map<string, string>();

  async function pinVersion(
    reference: NpmReference & { kind: 'registry' },
    context: OriginContext,
  ): Promise<OriginPin> {
    const { name, version, integrity, tarball } = await findVersion(reference, context);
    const pinned = formatNpmReference({ kind: 'registry', name, wanted: version, exact: true });
    tarballs.set(pinned, tarball);
    if (tarballs.size > MAX_KNOWN) tarballs.delete(tarballs.keys().next().value as string);
    return { reference: pinned, integrity };
  }

  async function download(
    reference: NpmReference & { kind: 'registry' },
    pin: OriginPin,
    context: OriginContext,
  ): Promise<Tarball> {
    const config = await readNpmConfig(context);
    const what = pin.reference;
    const known = tarballs.get(pin.reference);
    if (known !== undefined) return downloadTarball({ url: known, what, config, context }, pin.integrity);
    const usual = usualTarball(registryOf(reference.name, config), {
      name: reference.name,
      version: reference.wanted,
    });
    try {
      return await downloadTarball({ url: usual, what, config, context }, pin.integrity);
    } catch (error) {
      if (!(error instanceof LazytreeError) || (error.code !== 'NOT_FOUND' && error.code !== 'REFUSED'))
        throw error;
      const { tarball } = await findVersion(reference, context);
      if (tarball === usual) throw error;
      return downloadTarball({ url: tarball, what, config, context }, pin.integrity);
    }
  }

  async function tarballOf(
    reference: NpmReference,
    pin: OriginPin,
    context: OriginContext,
  ): Promise<Tarball> {
    if (reference.kind === 'remote') {
      const config = await readNpmConfig(context);
      return downloadTarball({ url: reference.url, what: pin.reference, config, context }, pin.integrity);
    }
    if (reference.kind === 'file') return openTarball(reference.path, pin);
    return download(reference as NpmReference & { kind: 'registry' }, pin, context);
  }

  return {
    name: 'npm',
    summary: 'NAME[@RANGE|TAG]: a package of a registry, as npm unpacks it; also URL of a tarball',
    parse: (text, { directory }) => formatNpmReference(parseNpmReference(text, directory)),
    async pin(text, context) {
      const reference = parseNpmReference(text, context.directory);
      if (reference.kind === 'registry') return pinVersion(reference, context);
      if (reference.kind === 'git') return pinGitPackage(reference, context);
      return { reference: formatNpmReference(reference) };
    },
    async fetch(asked, context) {
      let pin = asked;
      let reference = parseNpmReference(pin.reference, context.directory);
      if (reference.kind === 'git') return fetchGitPackage(reference, context);
      if (reference.kind === 'registry' && !reference.exact) {
        pin = {
          ...(await pinVersion(reference, context)),
          ...(asked.integrity ? { integrity: asked.integrity } : {}),
        };
        reference = parseNpmReference(pin.reference, context.directory);
      }
      const tarball = await tarballOf(reference, pin, context);
      try {
        return await places(() => unpack(tarball, pin.reference, context), context.signal);
      } finally {
        await tarball.release();
      }
    },
  };
}

async function unpack(tarball: Tarball, what: string, context: OriginContext): Promise<OriginContent> {
  const tree = context.newTree();
  try {
    const manifest = await unpackPackage(tree, tarball.content, { what, signal: context.signal });
    return { entry: await tree.finish(), integrity: tarball.integrity, notes: notesOf(manifest, what) };
  } catch (error) {
    tree.abort();
    throw error;
  }
}

export function notesOf({ scripts }: PackageManifest, what: string): string[] {
  if (typeof scripts !== 'object' || scripts === null) return [];
  const there = ['preinstall', 'install', 'postinstall'].filter((name) => typeof scripts[name] === 'string');
  return there.length === 0 ? [] : [`${what} has install scripts (${there.join(', ')}) that were not run`];
}

/** Reads it twice: what is unpacked is what was checked, or its content does not fit. */
async function openTarball(path: string, { integrity }: OriginPin): Promise<Tarball> {
  const check = createIntegrityCheck(integrity);
  try {
    for await (const piece of createReadStream(path)) check.update(piece);
  } catch (cause) {
    throw new LazytreeError('NOT_FOUND', `the tarball ${path} cannot be read`, { cause });
  }
  return {
    content: createReadStream(path, { highWaterMark: 1 << 20 }),
    integrity: check.finish(path),
    release: async () => undefined,
  };
}
