import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LazytreeError } from '@lazytree/core/errors';

/** npm's settings as its libraries take them: `registry`, `@scope:registry`, `//host/:_authToken`, proxies, timeouts. */
export type NpmConfig = Readonly<Record<string, unknown>>;

export interface ConfigPlace {
  /** Where the search for the project's `.npmrc` begins. */
  directory: string;
  environment: Readonly<Record<string, string | undefined>>;
}

/** Milliseconds that settings are taken as they were read: a tree of a thousand packages reads them once. */
const FRESH_MS = 5000;
const MAX_KEPT = 16;

type Environment = ConfigPlace['environment'];

/** By directory, for each environment that is in use. */
const kept = new WeakMap<Environment, Map<string, { at: number; config: Promise<NpmConfig> }>>();

/** Reads the settings that npm would have there: of the project, the user, the machine, and the environment. */
export function readNpmConfig(place: ConfigPlace): Promise<NpmConfig> {
  const { directory, environment } = place;
  const ofEnvironment = kept.get(environment) ?? new Map();
  kept.set(environment, ofEnvironment);
  const now = performance.now();
  const found = ofEnvironment.get(directory);
  if (found && now - found.at < FRESH_MS) return found.config;
  const config = load(place);
  ofEnvironment.delete(directory);
  ofEnvironment.set(directory, { at: now, config });
  config.catch(() => ofEnvironment.delete(directory));
  if (ofEnvironment.size > MAX_KEPT) ofEnvironment.delete(ofEnvironment.keys().next().value as string);
  return config;
}

async function load(place: ConfigPlace): Promise<NpmConfig> {
  const { flat } = await loadWithEnvironment(place);
  // npm's cache is npm's; what is fetched here goes into the store.
  const { cache: _, ...config } = flat;
  return config;
}

/** The settings, and the environment that npm gives to scripts of packages. */
export async function loadWithEnvironment({
  directory,
  environment,
}: ConfigPlace): Promise<{ flat: NpmConfig; environment: Record<string, string | undefined> }> {
  const [{ default: Config }, { default: all }] = await Promise.all([
    import('@npmcli/config'),
    import('@npmcli/config/lib/definitions/index.js') as Promise<{ default: Definitions }>,
  ]);
  // Of the npm that is beside this node, whose own settings come first.
  const npmPath = join(dirname(dirname(process.execPath)), 'lib', 'node_modules', 'npm');
  // It is written to.
  const env = { ...environment };
  const config = new Config({
    ...all,
    npmPath,
    argv: ['node', 'npm'],
    env,
    cwd: directory,
    warn: false,
  });
  try {
    await config.load();
  } catch (cause) {
    // What else it says may have settings in it.
    const { message } = cause as Error;
    const why = /^(?:Failed to replace env|double-loading)/.test(message) ? `: ${message}` : '';
    throw new LazytreeError('USAGE', `the settings of npm cannot be read${why}`, {
      hint: 'see what `npm config list` says in the same directory',
    });
  }
  const npm = join(npmPath, 'bin', 'npm-cli.js');
  return {
    flat: config.flat,
    environment: { ...env, INIT_CWD: directory, npm_execpath: existsSync(npm) ? npm : undefined },
  };
}

interface Definitions {
  definitions: unknown;
  shorthands: unknown;
  flatten: unknown;
  nerfDarts: unknown;
}
