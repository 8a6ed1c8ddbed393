import { existsSync, readFileSync } from 'node:fs';
import { createRequire, findPackageJSON } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';
import type { OriginDriver } from './driver.js';

/** In a home or in the directory that a command is given in: `{"origins": {"NAME": "MODULE"}}`, or a module of that. */
export const CONFIG_NAMES = ['lazytree.config.json', 'lazytree.config.js', 'lazytree.config.mjs'] as const;

/** Where the driver of a name is: a module, as the file that names it finds it, or the driver itself. */
export interface ConfiguredDriver {
  file: string;
  module: string | OriginDriver;
}

/**
 * The drivers that a directory's configuration names.
 *
 * @throws LazytreeError USAGE for a file that is no configuration, REFUSED for one that cannot be read
 */
export async function configuredDrivers(directory: string): Promise<Map<string, ConfiguredDriver>> {
  const found = new Map<string, ConfiguredDriver>();
  const file = CONFIG_NAMES.map((name) => join(directory, name)).find((path) => existsSync(path));
  if (file === undefined) return found;
  const { origins } = asObject(file.endsWith('.json') ? readJson(file) : await readModule(file), file);
  if (origins === undefined) return found;
  for (const [name, module] of Object.entries(asObject(origins, file))) {
    if (typeof module !== 'string' && !isDriver(module)) {
      throw new LazytreeError('USAGE', `${file}: the origin '${name}' is neither a module nor a driver`);
    }
    found.set(name, { file, module });
  }
  return found;
}

/** @throws LazytreeError NOT_FOUND, or USAGE for what is no driver */
export async function loadConfigured(
  name: string,
  { file, module }: ConfiguredDriver,
): Promise<OriginDriver> {
  if (typeof module !== 'string') return checked(name, module, file);
  let loaded: Record<string, unknown>;
  try {
    loaded = await import(urlOf(module, file));
  } catch (cause) {
    throw new LazytreeError(
      'NOT_FOUND',
      `the driver of '${name}:' cannot be loaded from '${module}': ${(cause as Error).message}`,
      { cause, hint: `install it beside ${file}, or correct that file` },
    );
  }
  return checked(name, loaded.driver ?? loaded.default, file);
}

function checked(name: string, driver: unknown, file: string): OriginDriver {
  if (isDriver(driver) && driver.name === name) return driver;
  const what = isDriver(driver) ? `is one of '${driver.name}:'` : 'is no driver';
  throw new LazytreeError('USAGE', `${file}: what it names for '${name}:' ${what}`, {
    hint: 'a module exports its driver as `driver`, or as its default: see docs/origins.md',
  });
}

function isDriver(value: unknown): value is OriginDriver {
  if (typeof value !== 'object' || value === null) return false;
  const { name, parse, pin, fetch } = value as Record<string, unknown>;
  return typeof name === 'string' && [parse, pin, fetch].every((part) => typeof part === 'function');
}

function asObject(value: unknown, file: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new LazytreeError('USAGE', `${file} is not an object with 'origins' in it`);
}

function readJson(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw fromSystemError(error, `reading ${file}`);
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new LazytreeError('USAGE', `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

async function readModule(file: string): Promise<unknown> {
  try {
    return (await import(pathToFileURL(file).href)).default;
  } catch (cause) {
    throw new LazytreeError('USAGE', `${file} cannot be loaded: ${(cause as Error).message}`, { cause });
  }
}

/** As `import` in that file would find it; CommonJS's resolution does not see what a package exports to it alone. */
function urlOf(module: string, file: string): string {
  try {
    return pathToFileURL(createRequire(file).resolve(module)).href;
  } catch (error) {
    if (errnoOf(error) !== 'ERR_PACKAGE_PATH_NOT_EXPORTED') throw error;
    const manifest = findPackageJSON(module, pathToFileURL(file).href);
    const entry = manifest && importEntry((readJson(manifest) as { exports?: unknown }).exports);
    if (!manifest || entry === undefined) throw error;
    return pathToFileURL(join(dirname(manifest), entry)).href;
  }
}

/** The file of a package's main entry for those who import it. */
function importEntry(exported: unknown): string | undefined {
  if (typeof exported === 'string') return exported;
  if (typeof exported !== 'object' || exported === null) return undefined;
  const conditions = exported as Record<string, unknown>;
  const chosen = ['.', 'node', 'import', 'default'].find((name) => name in conditions);
  return chosen === undefined ? undefined : importEntry(conditions[chosen]);
}
