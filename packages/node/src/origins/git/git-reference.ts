import { existsSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { LazytreeError } from '@lazytree/core';
import type { OriginReading } from '../driver.js';
import { atEachSlash, atExisting } from '../readings.js';
import { TRANSPORTS } from './git-environment.js';

/** A repository, and what is wanted of it. */
export interface GitReference {
  /** As git takes it, or an absolute path. */
  url: string;
  /** A branch, a tag, the whole name of a ref, a commit's id or the beginning of one; `HEAD` when nothing was said. */
  ref: string;
}

const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const ABBREVIATION = /^[0-9a-f]{4,63}$/;
const MAX_REF = 1024;
const MAX_URL = 4096;

export function isCommitId(ref: string): boolean {
  return COMMIT.test(ref);
}

export function isAbbreviation(ref: string): boolean {
  return ABBREVIATION.test(ref) && !isCommitId(ref);
}

export function formatGitReference({ url, ref }: GitReference): string {
  return ref === 'HEAD' ? url : `${url}#${ref}`;
}

/**
 * Reads `URL`, `URL#ref`, and the same of a path. What is written `git+https://…`, as in package files, is a URL, too.
 *
 * @param directory what relative paths are relative to
 * @throws LazytreeError USAGE, without the URL where it may have a secret in it
 */
export function parseGitReference(text: string, directory: string): GitReference {
  const hash = text.indexOf('#');
  const ref = hash < 0 ? 'HEAD' : checkedRef(text.slice(hash + 1));
  return { url: checkedUrl(hash < 0 ? text : text.slice(0, hash), directory), ref };
}

/** Behind a ref, which may have slashes; behind a URL that says where it ends; or in a repository of this machine. */
export function gitReadings(text: string, { directory }: { directory: string }): OriginReading[] {
  const hash = text.indexOf('#');
  if (hash >= 0) return atEachSlash(text, hash);
  const here = text.replace(/^(?:git\+)?file:\/\//, '');
  if (isAbsolute(here) || (!/^[A-Za-z][\w.+-]*:\/\//.test(text) && !isScpLike(text))) {
    const scheme = text.slice(0, text.length - here.length);
    return atExisting(here, (path) => isRepository(resolve(directory, path))).map(({ reference, path }) => ({
      reference: scheme + reference,
      path,
    }));
  }
  const end = text.indexOf('.git/');
  const all = { reference: text, path: '' };
  return end < 0 ? [all] : [all, { reference: text.slice(0, end + 4), path: text.slice(end + 5) }];
}

function isRepository(path: string): boolean {
  return (
    existsSync(join(path, '.git')) || (existsSync(join(path, 'HEAD')) && existsSync(join(path, 'objects')))
  );
}

function checkedRef(text: string): string {
  const ref = COMMIT.test(text.toLowerCase()) ? text.toLowerCase() : text;
  if (ref === '') return 'HEAD';
  const problem = refProblem(ref);
  if (problem)
    throw new LazytreeError('USAGE', `${quoted(ref)} is no name of a branch, tag or commit: ${problem}`);
  return ref;
}

/** Why no branch, tag or commit is called so, as `git check-ref-format` sees it, or undefined. */
export function refProblem(ref: string): string | undefined {
  if (ref.length > MAX_REF) return 'it is too long';
  if (ref.startsWith('-')) return 'it begins with a dash';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no ref has them
  if (/[\x00-\x20\x7f~^:?*[\\]/.test(ref) || /\.\.|@\{/.test(ref)) return 'no ref has such characters';
  if (/^\/|\/$|\/\/|\.$|\.lock(\/|$)|(^|\/)\./.test(ref)) return 'no ref has such a part';
  return undefined;
}

function checkedUrl(text: string, directory: string): string {
  if (text === '') throw new LazytreeError('USAGE', 'a URL or a path of a repository is missing');
  if (text.length > MAX_URL) throw new LazytreeError('USAGE', 'a URL of a repository that is too long');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\x00-\x1f\x7f]/.test(text)) throw usage(text, 'it has control characters');
  if (text.startsWith('-')) throw usage(text, 'it begins with a dash');
  if (/^[\w.+-]+::/.test(text)) throw usage(text, 'git would run a program that it names');
  const scheme = /^([A-Za-z][\w.+-]*):\/\//.exec(text)?.[1].toLowerCase();
  if (scheme !== undefined) return checkedLocation(scheme, text.slice(scheme.length + 3));
  if (isScpLike(text)) return checkedScp(text);
  return resolve(directory, text);
}

const ALIASES: Readonly<Record<string, string>> = {
  'git+https': 'https',
  'git+http': 'http',
  'git+ssh': 'ssh',
  'ssh+git': 'ssh',
  'git+file': 'file',
  'git+git': 'git',
};

function checkedLocation(written: string, rest: string): string {
  const scheme = ALIASES[written] ?? written;
  if (!TRANSPORTS.some((transport) => transport === scheme))
    throw new LazytreeError('USAGE', `git repositories are not fetched by ${quoted(written)}`, {
      hint: `use a URL of ${TRANSPORTS.join(', ')}, or a path`,
    });
  const authority = rest.split(/[/?]/, 1)[0];
  const at = authority.lastIndexOf('@');
  const user = at < 0 ? undefined : authority.slice(0, at);
  const host = authority.slice(at + 1).toLowerCase();
  if (user !== undefined && isSecret(user, scheme))
    throw new LazytreeError('USAGE', `the URL of a repository at ${quoted(host)} has a secret in it`, {
      hint: 'leave it out, and give it to git by a credential helper',
    });
  if (scheme === 'file' ? !isAbsolute(rest.slice(authority.length)) : host === '')
    throw usage(`${scheme}://${rest}`, scheme === 'file' ? 'its path is not absolute' : 'it has no host');
  // Here a program would take it for an option.
  if (host.startsWith('-') || user?.startsWith('-')) throw usage(rest, 'its host begins with a dash');
  const path = withoutEnd(rest.slice(authority.length));
  return `${scheme}://${user === undefined ? '' : `${user}@`}${host}${path}`;
}

/** A password is one. A name that nobody would give to a person is a token. */
function isSecret(user: string, scheme: string): boolean {
  if (user.includes(':')) return true;
  return (
    scheme !== 'ssh' && (user.length >= 32 || /^(gh[a-z]_|github_pat_|glpat-|x-(access|oauth)-)/i.test(user))
  );
}

/** `user@host:path`, which has a colon before any slash. */
function isScpLike(text: string): boolean {
  return /^[^/:]*(\[[^\]/]*\])?:/.test(text);
}

function checkedScp(text: string): string {
  const [, user, host, path] = /^(?:([^@/]*)@)?(\[[^\]/]*\]|[^/:[\]]+):(.*)$/.exec(text) ?? [];
  if (!host || !path || host.startsWith('-') || user?.startsWith('-') || path.startsWith('-'))
    throw usage(text, 'it is neither a URL nor a path');
  if (user?.includes(':'))
    throw new LazytreeError('USAGE', `the URL of a repository at ${quoted(host)} has a secret in it`);
  return `${user === undefined ? '' : `${user}@`}${host.toLowerCase()}:${withoutEnd(path)}`;
}

/** What leads to the same place without it. */
function withoutEnd(path: string): string {
  return path.replace(/(?<=.)\/+$/, '');
}

function usage(url: string, problem: string): LazytreeError {
  return new LazytreeError('USAGE', `${quoted(url)} is no URL of a git repository: ${problem}`, {
    hint: 'write git:URL#REF, as in git:https://host/repository#main',
  });
}

function quoted(text: string): string {
  return `'${text.replace(/[^/@]*@/g, '').slice(0, 200)}'`;
}

/** Whether a repository is a part of this machine's file system. */
export function isLocalUrl(url: string): boolean {
  return url.startsWith('/') || url.startsWith('file://');
}

/**
 * The URL of a submodule, as `git submodule` makes it: relative ones begin with a dot, and are relative to the URL of
 * what they are in.
 *
 * @throws LazytreeError USAGE for what is not a URL, and REFUSED for one of this machine where the parent is not of it
 */
export function submoduleUrl(parent: string, url: string): string {
  const relative = /^\.\.?\//.test(url);
  const absolute = relative ? resolveRelative(parent, url) : url;
  const checked = checkedUrl(absolute, '/');
  if (isLocalUrl(checked) && !isLocalUrl(parent))
    throw new LazytreeError(
      'REFUSED',
      `${quoted(url)} is on this machine, and the repository that names it is not`,
    );
  if (!relative && !/^[A-Za-z][\w.+-]*:\/\//.test(url) && !isScpLike(url) && !isAbsolute(url))
    throw usage(url, 'it is relative to nothing');
  return checked;
}

function resolveRelative(parent: string, url: string): string {
  let base = withoutEnd(parent);
  let rest = url;
  let separator = '/';
  for (;;) {
    if (rest.startsWith('./')) rest = rest.slice(2);
    else if (rest.startsWith('../')) {
      rest = rest.slice(3);
      const slash = base.lastIndexOf('/');
      const at = slash >= 0 ? slash : base.lastIndexOf(':');
      if (at < 0 || separator === ':') throw usage(url, 'it leads out of its host');
      separator = base[at];
      base = base.slice(0, at);
    } else break;
  }
  return `${base}${separator}${rest}`;
}
