import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { deflateSync } from 'node:zlib';
import { nameToBytes } from '@lazytree/core';
import type { DirectorySpec, TreeNode } from '../../../core/test/helpers.ts';

const ENVIRONMENT = {
  PATH: process.env.PATH,
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_AUTHOR_NAME: 'Ada',
  GIT_AUTHOR_EMAIL: 'ada@example.org',
  GIT_AUTHOR_DATE: '1700000000 +0000',
  GIT_COMMITTER_NAME: 'Ada',
  GIT_COMMITTER_EMAIL: 'ada@example.org',
  GIT_COMMITTER_DATE: '1700000000 +0000',
};

/** Runs git as the one who makes what the tests read. */
export function git(directory: string, ...args: string[]): string {
  return gitBytes(directory, ...args)
    .toString()
    .trim();
}

export function gitBytes(directory: string, ...args: string[]): Buffer {
  return execFileSync('git', ['-C', directory, '-c', 'protocol.file.allow=always', ...args], {
    env: ENVIRONMENT,
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 30,
  });
}

export type ObjectFormat = 'sha1' | 'sha256';

/** A bare repository of any objects, also those that git would not make. */
export interface MadeRepository {
  path: string;
  object(type: string, content: Uint8Array): string;
  blob(content: Uint8Array | string): string;
  /** Entries as they are given: neither sorted nor checked. */
  tree(entries: readonly { mode: string; name: string; id: string }[]): string;
  treeOf(spec: DirectorySpec): string;
  commit(tree: string, options?: { branch?: string; parents?: string[] }): string;
}

export function makeRepository(path: string, format: ObjectFormat = 'sha1'): MadeRepository {
  mkdirSync(path, { recursive: true });
  git(path, 'init', '--quiet', '--bare', `--object-format=${format}`, '--initial-branch=main', '.');

  function object(type: string, content: Uint8Array): string {
    const bytes = Buffer.concat([Buffer.from(`${type} ${content.length}\0`), content]);
    const id = createHash(format).update(bytes).digest('hex');
    const file = join(path, 'objects', id.slice(0, 2), id.slice(2));
    if (existsSync(file)) return id;
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, deflateSync(bytes));
    return id;
  }

  function tree(entries: readonly { mode: string; name: string; id: string }[]): string {
    const parts = entries.map(({ mode, name, id }) =>
      Buffer.concat([Buffer.from(`${mode} `), nameToBytes(name), Buffer.of(0), Buffer.from(id, 'hex')]),
    );
    return object('tree', Buffer.concat(parts));
  }

  function treeOf(spec: DirectorySpec): string {
    const entries = [...spec.entries].map(([name, node]) => ({ name, ...entryOf(node) }));
    const key = ({ name, mode }: { name: string; mode: string }) =>
      Buffer.concat([nameToBytes(name), Buffer.from(mode === '40000' ? '/' : '')]);
    return tree(entries.sort((a, b) => Buffer.compare(key(a), key(b))));
  }

  function entryOf(node: TreeNode): { mode: string; id: string } {
    if (node.kind === 'directory') return { mode: '40000', id: treeOf(node) };
    if (node.kind === 'symlink') return { mode: '120000', id: object('blob', nameToBytes(node.target)) };
    return { mode: node.executable ? '100755' : '100644', id: object('blob', node.content) };
  }

  return {
    path,
    object,
    blob: (content) => object('blob', Buffer.from(content as string)),
    tree,
    treeOf,
    commit(id, { branch = 'main', parents = [] } = {}) {
      const who = 'Ada <ada@example.org> 1700000000 +0000';
      const lines = [
        `tree ${id}`,
        ...parents.map((parent) => `parent ${parent}`),
        `author ${who}`,
        `committer ${who}`,
      ];
      const commit = object('commit', Buffer.from(`${lines.join('\n')}\n\nmade\n`));
      git(path, 'update-ref', `refs/heads/${branch}`, commit);
      return commit;
    },
  };
}
