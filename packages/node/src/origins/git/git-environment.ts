import { devNull } from 'node:os';

type Environment = Readonly<Record<string, string | undefined>>;

/** What of git's own variables a caller's environment may say: how to get in, and through what. */
const KEPT =
  /^GIT_(ASKPASS|SSH|SSH_COMMAND|SSH_VARIANT|SSL_\w+|PROXY_SSL_\w+|HTTP_\w+|EXEC_PATH|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+))$/;

/** Transports that cannot run programs of a URL's choice. */
export const TRANSPORTS = ['file', 'git', 'http', 'https', 'ssh'] as const;

/**
 * The environment of a git that talks to others. Repositories and traces that the caller's variables point to are not
 * ours to use; its configuration and credential helpers are. Nobody is asked for anything.
 */
export function transportEnvironment(environment: Environment): NodeJS.ProcessEnv {
  return {
    ...withoutGit(environment, (name) => KEPT.test(name)),
    GIT_ALLOW_PROTOCOL: TRANSPORTS.join(':'),
    GIT_TERMINAL_PROMPT: '0',
    GCM_INTERACTIVE: 'never',
    SSH_ASKPASS_REQUIRE: 'never',
  };
}

/**
 * The environment of a git that reads what has been fetched: no configuration of anyone has a say in what a tree is.
 *
 * @param variables what it is to have besides
 */
export function readingEnvironment(
  environment: Environment,
  variables: NodeJS.ProcessEnv = {},
): NodeJS.ProcessEnv {
  return {
    ...withoutGit(environment, (name) => name === 'GIT_EXEC_PATH'),
    GIT_CONFIG_GLOBAL: devNull,
    GIT_CONFIG_SYSTEM: devNull,
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_ATTR_NOSYSTEM: '1',
    // Where git looks for attributes that are nobody's but the user's.
    XDG_CONFIG_HOME: devNull,
    HOME: devNull,
    GIT_NO_REPLACE_OBJECTS: '1',
    GIT_NO_LAZY_FETCH: '1',
    GIT_OPTIONAL_LOCKS: '0',
    ...variables,
  };
}

/** Messages come in the language that they are understood in. */
function withoutGit(environment: Environment, kept: (name: string) => boolean): NodeJS.ProcessEnv {
  const own: NodeJS.ProcessEnv = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined || (name.startsWith('GIT_') && !kept(name))) continue;
    if (name === 'LANGUAGE' || name === 'LANG' || name.startsWith('LC_')) continue;
    own[name] = value;
  }
  // Of the caller of a daemon, only what concerns origins is known; programs are where they are for the daemon.
  return { PATH: process.env.PATH, ...own, LC_ALL: 'C' };
}
