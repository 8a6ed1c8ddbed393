import { readFile, realpath } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core/errors';
import pMap from 'p-map';
import { HIDDEN_LOCKFILE } from './hidden-lockfile.js';
import { isObject, type LockedPackage, readLockfile } from './lockfile.js';
import { loadWithEnvironment } from './npm-config.js';

/** In the order in which npm runs them: each of them of all packages, before the next. */
const EVENTS = ['preinstall', 'install', 'postinstall'] as const;
const MAX_LOCKFILE = 256 << 20;
const MAX_MANIFEST = 8 << 20;
const SHOWN_LINES = 20;
const TOP = 'node_modules/';

export interface InstallScript {
  /** As in lockfiles: `node_modules/a/node_modules/b`. */
  location: string;
  /** `esbuild@0.25.0`. */
  package: string;
  event: (typeof EVENTS)[number];
}

export interface InstallScriptsOptions {
  signal: AbortSignal;
  environment: Readonly<Record<string, string | undefined>>;
  /** Lines for people: of optional packages, whose scripts may fail, and what has been said by those that failed. */
  onWarning(text: string): void;
}

/**
 * Runs the install scripts of the packages in a directory that a lockfile's tree is in, in the order of `npm rebuild`.
 * Whoever interrupts waits for those that run.
 *
 * @param directory a node_modules, or the directory that one is in
 * @returns what has run
 * @throws LazytreeError NOT_FOUND when there is no list of packages, FAILED when a script fails
 */
export async function runInstallScripts(
  directory: string,
  options: InstallScriptsOptions,
): Promise<InstallScript[]> {
  const { signal, environment } = options;
  const { modules, packages } = await readPackages(directory);
  const settings = await loadWithEnvironment({ directory: dirname(modules), environment });
  const { default: runScript } = await import('@npmcli/run-script');
  const all = (
    await pMap(packages, (locked) => describe(modules, locked), { concurrency: 16, signal })
  ).filter((found) => found !== undefined);
  const done: InstallScript[] = [];
  const failures: LazytreeError[] = [];

  /** Those of one event run side by side. */
  async function runOne(one: Described, event: InstallScript['event']): Promise<InstallScript | undefined> {
    if (failures.length > 0 || signal.aborted) return undefined;
    const { locked, path, manifest } = one;
    const id = `${manifest.name ?? locked.name}@${manifest.version ?? locked.version}`;
    try {
      const { script } = await runScript({
        event,
        path,
        pkg: { ...manifest, _id: id },
        stdio: 'pipe',
        env: { ...settings.environment, ...described(locked, path) },
        ...(typeof settings.flat.scriptShell === 'string' && { scriptShell: settings.flat.scriptShell }),
      });
      return script === undefined ? undefined : { location: locked.location, package: id, event };
    } catch (cause) {
      const failure = failureOf(cause, { id, event, locked });
      for (const line of saidBy(cause)) options.onWarning(`${id}: ${line}`);
      if (locked.optional) options.onWarning(`${failure.message}; the package is optional`);
      else failures.push(failure);
      return undefined;
    }
  }

  for (const event of EVENTS) {
    const ran = await pMap(all, (one) => runOne(one, event), { concurrency: availableParallelism() });
    done.push(...ran.filter((script) => script !== undefined));
    signal.throwIfAborted();
    if (failures.length > 0) throw failures[0];
  }
  return done;
}

interface Described {
  locked: LockedPackage;
  path: string;
  manifest: Record<string, unknown>;
}

/** The packages with install scripts, those that are closer to the top first. */
async function readPackages(directory: string): Promise<{ modules: string; packages: LockedPackage[] }> {
  for (const candidate of [directory, join(directory, 'node_modules')]) {
    const file = join(candidate, HIDDEN_LOCKFILE);
    let content: Buffer;
    try {
      content = await readFile(file);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') continue;
      throw fromSystemError(error, `reading ${file}`);
    }
    if (content.length > MAX_LOCKFILE) throw new LazytreeError('UNSUPPORTED', `${file} is too large`);
    const found = [...readLockfile(content.toString('utf8'), file).packages.values()].filter(
      ({ location, link, hasInstallScript }) => location.startsWith(TOP) && hasInstallScript && !link,
    );
    return { modules: candidate, packages: found.sort(inOrder) };
  }
  throw new LazytreeError('NOT_FOUND', `there is no list of packages in ${directory}`, {
    hint: 'scripts are run in trees of npm-lock:, which have a node_modules/.package-lock.json',
  });
}

function inOrder(a: LockedPackage, b: LockedPackage): number {
  const depth = (location: string) => location.split(TOP).length;
  return depth(a.location) - depth(b.location) || a.location.localeCompare(b.location, 'en');
}

/** Undefined where npm, too, finds nothing to run. */
async function describe(modules: string, locked: LockedPackage): Promise<Described | undefined> {
  const path = join(modules, locked.location.slice(TOP.length));
  const file = join(path, 'package.json');
  let text: string;
  try {
    const top = await realpath(modules);
    if (!(await realpath(path)).startsWith(`${top}/`))
      throw new LazytreeError('CORRUPT', `${locked.location} leads out of the tree`);
    const content = await readFile(file);
    text = content.length > MAX_MANIFEST ? '' : content.toString('utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw fromSystemError(error, `reading ${file}`);
  }
  const manifest = parse(text);
  return manifest && { locked, path, manifest };
}

function parse(text: string): Record<string, unknown> | undefined {
  let manifest: unknown;
  try {
    manifest = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch {
    // It is the publisher's, and npm runs nothing of it either.
    return undefined;
  }
  if (!isObject(manifest)) return undefined;
  const scripts = isObject(manifest.scripts) ? manifest.scripts : {};
  const sound = Object.entries(scripts).filter(([, script]) => typeof script === 'string');
  return { ...manifest, scripts: Object.fromEntries(sound) };
}

/** As npm tells scripts of their package, beside what is in its package.json. */
function described(
  { resolved, integrity, optional, dev, peer, devOptional }: LockedPackage,
  path: string,
): Record<string, string | undefined> {
  const flag = (value: boolean) => (value ? '1' : '');
  return {
    npm_package_resolved: resolved,
    npm_package_integrity: integrity,
    npm_package_json: join(path, 'package.json'),
    npm_package_optional: flag(optional),
    npm_package_dev: flag(dev),
    npm_package_peer: flag(peer),
    npm_package_dev_optional: flag(devOptional && !dev && !optional),
  };
}

function failureOf(
  cause: unknown,
  { id, event, locked }: { id: string; event: string; locked: LockedPackage },
): LazytreeError {
  const { code, signal } = cause as { code?: unknown; signal?: unknown };
  const how = typeof signal === 'string' ? `was ended by ${signal}` : `failed with ${String(code)}`;
  return new LazytreeError('FAILED', `the ${event} script of ${id} ${how} (${locked.location})`, {
    cause,
    hint: `what ${basename(locked.location)} needs may be lacking here; \`lazytree workspace run-scripts\` runs all scripts again`,
  });
}

/** The end of what a script has written. */
function saidBy(cause: unknown): string[] {
  const { stdout = '', stderr = '' } = cause as { stdout?: unknown; stderr?: unknown };
  const lines = `${String(stdout)}\n${String(stderr)}`.split('\n').filter((line) => line.trim() !== '');
  return lines.slice(-SHOWN_LINES);
}
