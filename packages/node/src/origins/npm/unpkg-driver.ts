import { type FileEntry, LazytreeError, type TreeWriter } from '@lazytree/core';
import pMap from 'p-map';
import type { OriginContent, OriginContext, OriginDriver, OriginPin } from '../driver.js';
import { asTarball, downloadTarball, type Tarball } from './download.js';
import { createIntegrityCheck } from './integrity.js';
import { readNpmConfig } from './npm-config.js';
import { atConfiguredRegistry, findVersion, type PackageVersion } from './registry-package.js';
import { type RegistryRequest, readJson, takeAnswer } from './registry-request.js';
import { createSpool } from './spool.js';
import { binPaths, readManifest, unpackPackage } from './unpack-package.js';
import { integrityOf, readUnpkgListing, type UnpkgFile, type UnpkgListing } from './unpkg-listing.js';
import { formatUnpkgReference, parseUnpkgReference, type UnpkgReference } from './unpkg-reference.js';

const UNPKG = 'https://unpkg.com';
/** Files that come at a time, when they come one by one. */
const AT_ONCE = 8;

/**
 * Packages by the versions and files that unpkg knows. Their content is that of the npm tarball when that can be had, and
 * what unpkg itself has otherwise.
 */
export const driver: OriginDriver = {
  name: 'unpkg',
  summary: 'unpkg:NAME@VERSION[/PATH], a package, or what is in it, as unpkg has it',
  parse: (text) => formatUnpkgReference(parseUnpkgReference(text)),
  // Whether a path is that of a file is written nowhere in it.
  isFile: (text) => (parseUnpkgReference(text).path === '' ? false : undefined),
  async pin(text, context) {
    const asked = parseUnpkgReference(text);
    const { version } = asked.exact ? { version: asked.wanted } : await list(asked, context);
    const reference = { ...asked, wanted: version ?? asked.wanted, exact: true };
    const packed = await inRegistry(reference, context);
    return {
      reference: formatUnpkgReference(reference),
      ...(packed?.integrity && { integrity: packed.integrity }),
    };
  },
  async fetch(pin, context) {
    const reference = parseUnpkgReference(pin.reference);
    try {
      const packed = await findVersion(reference, context);
      const isMeant = pin.integrity === undefined || pin.integrity === packed.integrity;
      if (isMeant) return await fromTarball(reference, packed, context);
    } catch (error) {
      context.signal.throwIfAborted();
      if (!isLacking(error)) throw error;
      return fetchFiles(reference, pin, context).catch((other: unknown) => {
        context.signal.throwIfAborted();
        throw isLacking(other) || pin.integrity !== undefined ? error : other;
      });
    }
    return fetchFiles(reference, pin, context);
  },
};

/** @throws LazytreeError NOT_FOUND also when it is in the registry, and what is meant is not in it */
async function fromTarball(
  reference: UnpkgReference,
  packed: PackageVersion,
  context: OriginContext,
): Promise<OriginContent> {
  const tarball = await download(packed, context);
  try {
    return await inTree(reference, context, async (tree, placeOf) => {
      const what = `${packed.name}@${packed.version}`;
      await unpackPackage(tree, tarball.content, { what, signal: context.signal, placeOf });
      return tarball.integrity;
    });
  } finally {
    await tarball.release();
  }
}

function baseOf({ environment }: OriginContext): string {
  const base = environment.LAZYTREE_UNPKG_URL || UNPKG;
  if (!/^https?:/.test(base) || !URL.canParse(base))
    throw new LazytreeError('USAGE', 'LAZYTREE_UNPKG_URL is no URL of a web server', {
      hint: `set it as ${UNPKG}`,
    });
  return base.replace(/\/*$/, '');
}

async function requestOf(path: string, what: string, context: OriginContext): Promise<RegistryRequest> {
  const config = await readNpmConfig(context);
  return { url: `${baseOf(context)}/${path}`, what, config, context };
}

async function list(reference: UnpkgReference, context: OriginContext): Promise<UnpkgListing> {
  const { name, wanted } = reference;
  const what = `${name}@${wanted}`;
  context.onProgress({ doing: `looking up ${what}`, bytes: 0 });
  const request = await requestOf(`${name}@${encodeURIComponent(wanted)}/?meta`, what, context);
  return readUnpkgListing(await readJson(request, 'application/json'), what);
}

/** Undefined when the registry does not have it, or does not answer. */
async function inRegistry(
  { name, wanted }: UnpkgReference,
  context: OriginContext,
): Promise<PackageVersion | undefined> {
  try {
    return await findVersion({ name, wanted }, context);
  } catch (error) {
    context.signal.throwIfAborted();
    if (isLacking(error)) return undefined;
    throw error;
  }
}

function isLacking(error: unknown): boolean {
  return error instanceof LazytreeError && ['NOT_FOUND', 'REFUSED', 'NETWORK'].includes(error.code);
}

async function download(
  { name, version, integrity, tarball }: PackageVersion,
  context: OriginContext,
): Promise<Tarball> {
  const config = await readNpmConfig(context);
  const url = atConfiguredRegistry(tarball, config);
  return downloadTarball({ url, what: `${name}@${version}`, config, context }, integrity);
}

type PlaceOf = (path: string) => string | undefined;

/** Makes a tree of what of a package is meant: all, a directory, or a file. */
async function inTree(
  { name, wanted: version, path: wanted }: UnpkgReference,
  context: OriginContext,
  write: (tree: TreeWriter, placeOf: PlaceOf) => Promise<string>,
): Promise<OriginContent> {
  const lone = wanted.slice(wanted.lastIndexOf('/') + 1);
  let files = 0;
  let isFile = false;
  const placeOf: PlaceOf = (path) => {
    const isBelow = wanted === '' || path.startsWith(`${wanted}/`);
    if (!isBelow && path !== wanted) return undefined;
    files++;
    isFile ||= !isBelow;
    if (!isBelow) return lone;
    return wanted === '' ? path : path.slice(wanted.length + 1);
  };
  const tree = context.newTree();
  try {
    const integrity = await write(tree, placeOf);
    if (files === 0) {
      throw new LazytreeError('NOT_FOUND', `there is no '${wanted}' in ${name}@${version}`, {
        hint: `see what there is with \`lazytree ls -R unpkg:${name}@${version}\``,
      });
    }
    const file = isFile ? tree.get(lone) : undefined;
    const directory = await tree.finish();
    return { entry: file ? { ...(file as FileEntry), kind: 'file' } : directory, integrity, notes: [] };
  } catch (error) {
    tree.abort();
    throw error;
  }
}

async function fetchFiles(
  reference: UnpkgReference,
  pin: OriginPin,
  context: OriginContext,
): Promise<OriginContent> {
  const { files } = await list(reference, context);
  const { path } = reference;
  const meant = files.filter((file) => path === '' || file.path === path || file.path.startsWith(`${path}/`));
  const found = integrityOf(meant);
  if (pin.integrity !== undefined && pin.integrity !== found) {
    throw new LazytreeError('CORRUPT', `unpkg does not have what ${pin.reference} is pinned to`, {
      hint: 'name it again without its integrity, to take what is there now',
    });
  }
  return inTree(reference, context, async (tree, placeOf) => {
    let manifest: Buffer | undefined;
    const needed = path === '' ? meant : [...meant, ...files.filter((file) => file.path === 'package.json')];
    await pMap(
      new Set(needed),
      async (file) => {
        const { content, release } = await fetchFile(reference, file, context);
        try {
          if (file.path === 'package.json' && Buffer.isBuffer(content)) manifest = content;
          const place = placeOf(file.path);
          if (place !== undefined) await tree.file(place, content, { executable: false });
        } finally {
          await release();
        }
      },
      { concurrency: AT_ONCE, signal: context.signal },
    );
    for (const bin of manifest ? binPaths(readManifest(manifest)) : []) {
      const place = placeOf(bin);
      const entry = place === undefined ? undefined : tree.get(place);
      if (entry?.kind === 'file') tree.put(place as string, { ...entry, kind: 'executable' });
    }
    return found;
  });
}

async function fetchFile(
  { name, wanted }: UnpkgReference,
  { path, integrity }: UnpkgFile,
  context: OriginContext,
): Promise<Tarball> {
  const what = `${name}@${wanted}/${path}`;
  const url = `${name}@${wanted}/${path.split('/').map(encodeURIComponent).join('/')}`;
  const request = await requestOf(url, what, context);
  const spool = createSpool(() => context.cacheDirectory());
  const check = createIntegrityCheck(integrity);
  try {
    await takeAnswer(request, {
      headers: () => ({ accept: '*/*' }),
      async take({ body }) {
        await spool.empty();
        check.reset();
        try {
          for await (const piece of body) {
            check.update(piece);
            await spool.write(piece);
          }
        } finally {
          context.onReceived(spool.length(), 1);
        }
      },
    });
    return asTarball({ integrity: check.finish(what), content: await spool.finish() });
  } catch (error) {
    await spool.remove();
    throw error;
  }
}
