import { join } from 'node:path/posix';
import { checkEngine, checkPlatform } from 'npm-install-checks';
import { isObject, type LockedPackage, type Lockfile } from './lockfile.js';
import type { NpmLockReference, Omitted } from './npm-lock-reference.js';

interface Node {
  package: LockedPackage;
  /** What is needed of it, by name. */
  out: Edge[];
  in: Edge[];
  /** Left out, with all that is below it. */
  absent: boolean;
}

interface Edge {
  from: Node;
  to: Node;
  optional: boolean;
}

/**
 * What is installed of a lockfile, in the order of the lockfile: not what is omitted, nor optional packages that are not
 * for the machine, nor what only those need. As npm decides it.
 */
export function installedPackages(
  lockfile: Lockfile,
  reference: Required<NpmLockReference>,
): LockedPackage[] {
  const nodes = new Map<string, Node>();
  for (const [location, locked] of lockfile.packages)
    nodes.set(location, { package: locked, out: [], in: [], absent: false });
  const unfit = [...nodes.values()].filter(
    (node) => node.package.optional && !node.package.link && !isFit(node.package, reference),
  );
  if (unfit.length > 0) connect(nodes);
  for (const node of unfit) {
    if (node.absent) continue;
    for (const other of neededByNothingElse(node)) other.absent = true;
  }
  const omit = new Set(reference.omit);
  for (const node of nodes.values()) {
    // What nothing needs any more is removed when something is installed.
    if (node.package.raw.extraneous === true || isOmitted(flagsOf(node.package, nodes), omit))
      node.absent = true;
  }
  return [...nodes.values()]
    .filter((node) => !isAbsent(node.package.location, nodes))
    .map((node) => node.package);
}

/** A version is lacking where the registry had none for the machine that wrote the lockfile. */
function isFit(
  { raw, version }: LockedPackage,
  { os, cpu, libc, node }: Required<NpmLockReference>,
): boolean {
  if (version === undefined) return false;
  try {
    if (isObject(raw.engines)) checkEngine({ engines: raw.engines }, null, node, false);
    checkPlatform({ os: list(raw.os), cpu: list(raw.cpu), libc: list(raw.libc) }, false, { os, cpu, libc });
    return true;
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === 'EBADENGINE' || code === 'EBADPLATFORM') return false;
    throw error;
  }
}

function list(value: unknown): string[] | undefined {
  if (typeof value === 'string') return [value];
  if (!Array.isArray(value)) return undefined;
  const names = value.filter((name) => typeof name === 'string');
  return names.length === 0 ? undefined : names;
}

/** Of a link, those of what it points to. */
function flagsOf(locked: LockedPackage, nodes: ReadonlyMap<string, Node>): LockedPackage {
  return (locked.link ? nodes.get(join(locked.resolved ?? ''))?.package : undefined) ?? locked;
}

function isOmitted({ dev, optional, devOptional, peer }: LockedPackage, omit: ReadonlySet<Omitted>): boolean {
  return (
    (peer && omit.has('peer')) ||
    (dev && omit.has('dev')) ||
    (optional && omit.has('optional')) ||
    (devOptional && omit.has('dev') && omit.has('optional'))
  );
}

function isAbsent(location: string, nodes: ReadonlyMap<string, Node>): boolean {
  for (let at: string | undefined = location; at !== undefined; at = ownerOf(at)) {
    if (nodes.get(at)?.absent) return true;
  }
  return false;
}

/** The package in whose node_modules a location is; undefined for what is in none. */
export function ownerOf(location: string): string | undefined {
  const at = location.lastIndexOf('node_modules/');
  if (at < 0 || (at > 0 && location[at - 1] !== '/')) return undefined;
  return at === 0 ? '' : location.slice(0, at - 1);
}

function connect(nodes: ReadonlyMap<string, Node>): void {
  for (const node of nodes.values()) {
    const { location, link, raw } = node.package;
    if (link) continue;
    const needs = new Map<string, boolean>();
    const meta = isObject(raw.peerDependenciesMeta) ? raw.peerDependenciesMeta : {};
    const need = (group: unknown, isOptional: (name: string) => boolean) => {
      if (isObject(group)) for (const name of Object.keys(group)) needs.set(name, isOptional(name));
    };
    need(raw.peerDependencies, (name) => isObject(meta[name]) && meta[name].optional === true);
    need(raw.dependencies, () => false);
    need(raw.optionalDependencies, () => true);
    if (ownerOf(location) === undefined) need(raw.devDependencies, () => false);
    if (location === '') for (const name of workspaceNames(nodes)) needs.set(name, false);
    for (const [name, optional] of needs) {
      const to = find(nodes, location, name);
      if (!to) continue;
      const edge = { from: node, to, optional };
      node.out.push(edge);
      to.in.push(edge);
    }
  }
}

function* workspaceNames(nodes: ReadonlyMap<string, Node>): Iterable<string> {
  for (const { package: locked } of nodes.values())
    if (locked.link && ownerOf(locked.location) === '') yield locked.installedName;
}

/** Where node looks for a package: in its own node_modules, and in those of all directories above. */
function find(nodes: ReadonlyMap<string, Node>, from: string, name: string): Node | undefined {
  for (let at: string | undefined = from; at !== undefined; at = above(at)) {
    const found = nodes.get(at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`);
    if (found) return found;
  }
  return undefined;
}

function above(location: string): string | undefined {
  if (location === '') return undefined;
  const owner = ownerOf(location);
  if (owner !== undefined) return owner;
  const slash = location.lastIndexOf('/');
  return slash < 0 ? '' : location.slice(0, slash);
}

/** With an optional package go those that cannot do without it, and what only these need. */
function neededByNothingElse(optional: Node): Set<Node> {
  const set = new Set([optional]);
  for (const node of set) for (const edge of node.in) if (!edge.optional) set.add(edge.from);
  const counts = (edge: Edge) => !set.has(edge.to) && !edge.from.absent;
  const all = new Set(set);
  for (const node of all) for (const edge of node.out) if (counts(edge)) all.add(edge.to);
  for (let changed = true; changed; ) {
    changed = false;
    for (const node of all) {
      if (!node.in.some((edge) => !all.has(edge.from) && counts(edge))) continue;
      all.delete(node);
      changed = true;
    }
  }
  return all;
}
