import { nameFromBytes } from '@lazytree/core';
import type { CacheRepository } from './cache-repository.js';
import { type GitOptions, runGit } from './git-process.js';

/** Paths of submodules, as the engine spells them, with the URLs that `.gitmodules` gives them. */
export async function readSubmodules(
  { directory }: CacheRepository,
  blob: string,
  options: GitOptions,
): Promise<Map<string, string>> {
  const answer = await runGit(
    ['--git-dir', directory, 'config', '--blob', blob, '--null', '--list'],
    options,
  );
  const settings = new Map<string, Map<string, string>>();
  for (let at = 0; at < answer.length; ) {
    const end = answer.indexOf(0, at);
    const newline = answer.indexOf(10, at);
    if (end < 0) break;
    if (newline >= 0 && newline < end) {
      const [, name, key] =
        /^submodule\.(.*)\.(path|url)$/s.exec(answer.toString('latin1', at, newline)) ?? [];
      if (name !== undefined) {
        const value = nameFromBytes(answer.subarray(newline + 1, end));
        settings.set(name, (settings.get(name) ?? new Map()).set(key, value));
      }
    }
    at = end + 1;
  }
  const urls = new Map<string, string>();
  for (const setting of settings.values()) {
    const path = setting.get('path');
    const url = setting.get('url');
    if (path !== undefined && url !== undefined) urls.set(path.replace(/\/+$/, ''), url);
  }
  return urls;
}
