import { dirname, relative, resolve } from 'node:path';
import { join } from 'node:path/posix';
import { type Entry, LazytreeError, type TreeWriter } from '@lazytree/core';
import defaults from 'npm-registry-fetch/lib/default-opts.js';
import { binLinks } from './bin-links.js';
import { HIDDEN_LOCKFILE, hiddenLockfile } from './hidden-lockfile.js';
import { installedPackages, ownerOf } from './lock-graph.js';
import type { LockedPackage, Lockfile } from './lockfile.js';
import type { NpmLockReference } from './npm-lock-reference.js';
import { formatNpmReference, formatUnlinked, parseNpmReference } from './npm-reference.js';

/** Stands in lockfiles for whatever registry is configured. */
const DEFAULT_HOST = new URL(defaults.registry).host;

/**
 * Writes the node_modules of a lockfile: an origin entry for each package, the links between and out of them, and npm's
 * own note of it all.
 *
 * @returns what a person should know, a line each
 * @throws LazytreeError CORRUPT, UNSUPPORTED
 */
export async function writeLockTree(
  tree: TreeWriter,
  lockfile: Lockfile,
  reference: Required<NpmLockReference>,
): Promise<string[]> {
  const project = dirname(reference.path);
  const installed = installedPackages(lockfile, reference);
  const top = reference.workspace === '' ? 'node_modules/' : `${reference.workspace}/node_modules/`;
  const inTree = installed.filter(({ location }) => location.startsWith(top)).sort(byDepth);
  const { links, unlinked } = binLinks(installed, ({ resolved = '' }) =>
    lockfile.packages.get(join(resolved)),
  );
  const notes: string[] = [];
  const rooted = new Set<string>();
  for (const locked of inTree) {
    const path = locked.location.slice(top.length);
    if (locked.link) {
      tree.symlink(path, linkTarget(locked, project));
      continue;
    }
    if (!comesByItself(locked, rooted)) continue;
    const entry = originOf(locked, { project, unlinked: unlinked.get(locked.location) ?? [] });
    if (!entry) {
      notes.push(`${locked.location} has no version in the lockfile, and is left out`);
      continue;
    }
    tree.put(path, entry);
    if (locked.hasInstallScript)
      notes.push(
        `${locked.name}@${locked.version} has install scripts that were not run (${locked.location})`,
      );
  }
  for (const { location, target } of links)
    if (location.startsWith(top)) tree.symlink(location.slice(top.length), target);
  if (reference.workspace === '') {
    const text = hiddenLockfile(lockfile, installed);
    await tree.file(HIDDEN_LOCKFILE, Buffer.from(text), { executable: false });
    notes.push(...elsewhere(installed, reference));
  }
  return notes;
}

/** What is below a package is laid over it, and so has to come later. */
function byDepth(a: LockedPackage, b: LockedPackage): number {
  return a.location.split('node_modules/').length - b.location.split('node_modules/').length;
}

/**
 * Whether a package is not a part of the tarball of another. What the project itself bundles is installed all the same,
 * with what is below it.
 */
function comesByItself({ location, inBundle }: LockedPackage, rooted: Set<string>): boolean {
  if (!inBundle) return true;
  const owner = ownerOf(location) as string;
  const isOfProject = ownerOf(owner) === undefined || rooted.has(owner);
  if (isOfProject) rooted.add(location);
  return isOfProject;
}

function linkTarget({ location, resolved }: LockedPackage, project: string): string {
  if (resolved === undefined || resolved.includes('\0'))
    throw new LazytreeError('CORRUPT', `the lockfile does not say where the link ${location} points to`);
  return relative(resolve(project, dirname(location)), resolve(project, resolved)) || '.';
}

interface OriginOptions {
  project: string;
  unlinked: readonly string[];
}

function originOf(locked: LockedPackage, options: OriginOptions): Entry | undefined {
  const reference = referenceOf(locked, options.project);
  if (reference === undefined) return undefined;
  // What npm packs of a repository is not the same every time.
  const commit = reference.startsWith('git+') ? reference.slice(reference.indexOf('#') + 1) : undefined;
  return {
    kind: 'origin',
    of: 'directory',
    name: locked.installedName,
    driver: 'npm',
    // Without an address npm asks the registry, which says what is to be executable.
    reference:
      reference + formatUnlinked({ commands: options.unlinked, executable: locked.resolved === undefined }),
    integrity: commit === undefined ? locked.integrity : `git:${commit}`,
  };
}

function referenceOf(locked: LockedPackage, project: string): string | undefined {
  const { name, version, resolved, location } = locked;
  const byVersion = version === undefined ? undefined : `${name}@${version}`;
  if (resolved === undefined) return byVersion;
  if (/^https?:/.test(resolved) && URL.canParse(resolved)) {
    const url = new URL(resolved);
    if (url.host === DEFAULT_HOST && byVersion !== undefined && isUsual(url, locked)) return byVersion;
    // Credentials are in .npmrc, and nowhere that is shown to others.
    url.username = '';
    url.password = '';
    url.hash = '';
    return url.href;
  }
  if (resolved.startsWith('file:')) {
    const path = resolve(project, resolved.slice('file:'.length));
    if (/\.(?:tgz|tar\.gz|tar)$/i.test(path)) return `file:${path}`;
    throw new LazytreeError('UNSUPPORTED', `${location} is a copy of the directory ${path}`, {
      hint: 'run `npm install --install-links=false`, which makes it a link',
    });
  }
  const reference = parseNpmReference(resolved, project);
  if (reference.kind === 'git' && !/^[0-9a-f]{40,64}$/.test(reference.committish))
    throw new LazytreeError('CORRUPT', `the lockfile has no commit for ${location}`, {
      hint: 'run `npm install` again',
    });
  return formatNpmReference(reference);
}

function isUsual({ pathname }: URL, { name, version }: LockedPackage): boolean {
  const usual = `/${name}/-/${name.slice(name.indexOf('/') + 1)}-${version}.tgz`;
  return decodeURIComponent(pathname) === usual;
}

/** Workspaces may have a node_modules of their own, which is not part of this one. */
function elsewhere(installed: readonly LockedPackage[], { path }: NpmLockReference): string[] {
  const counts = new Map<string, number>();
  for (const { location } of installed) {
    const at = location.indexOf('/node_modules/');
    if (at < 0 || location.startsWith('node_modules/')) continue;
    const workspace = location.slice(0, at);
    counts.set(workspace, (counts.get(workspace) ?? 0) + 1);
  }
  return [...counts].map(
    ([workspace, count]) =>
      `${workspace} has ${count} package${count === 1 ? '' : 's'} of its own: npm-lock:${path}?workspace=${workspace}`,
  );
}
