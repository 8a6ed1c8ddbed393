import { createHash } from 'node:crypto';
import { LazytreeError } from '@lazytree/core';
import { createByteReader } from './byte-reader.js';
import type { CacheRepository } from './cache-repository.js';
import { readingEnvironment } from './git-environment.js';
import { startGit } from './git-process.js';

export type GitObjectType = 'commit' | 'tree' | 'blob' | 'tag';

export interface GitObject {
  id: string;
  type: GitObjectType;
  size: number;
  /** What is large comes in pieces, all of which have to be taken before the next object. */
  content: Buffer | AsyncIterable<Buffer>;
}

export interface ReadObjectsOptions {
  signal: AbortSignal;
  environment: Readonly<Record<string, string | undefined>>;
  /** Whether what is asked for depends on what has come: each answer then comes at once. */
  interactive?: boolean;
}

/** Bytes of content that comes as a whole. */
const SMALL = 1 << 20;
const TYPES: readonly string[] = ['commit', 'tree', 'blob', 'tag'] satisfies GitObjectType[];
/** Requests that are written together. */
const REQUESTS = 512;

/**
 * Reads objects in the order of their ids with one git, and checks that they are what their ids say.
 *
 * @param ids when this is `interactive`, asked again after each object, also if they were at their end before
 * @throws LazytreeError CORRUPT for what is not there, or not what it should be; UNSUPPORTED as git
 */
export async function* readObjects(
  repository: CacheRepository,
  ids: Iterator<string, undefined>,
  { signal, environment, interactive = false }: ReadObjectsOptions,
): AsyncGenerator<GitObject> {
  const { directory, where } = repository;
  const git = startGit(
    ['--git-dir', directory, 'cat-file', '--batch', ...(interactive ? [] : ['--buffer'])],
    { signal, environment: readingEnvironment(environment), where },
  );
  try {
    const damaged = (what: string) => new LazytreeError('CORRUPT', `what was fetched from ${where} ${what}`);
    const reader = createByteReader(git.stdout, () => damaged('ends too early'));
    const asked = interactive ? undefined : ask(git.stdin, ids);
    // What it fails with shows in the answers.
    asked?.catch(() => undefined);
    for (let pending = 0; ; pending--) {
      if (interactive) {
        for (let next = ids.next(); next.value !== undefined; next = ids.next()) {
          git.stdin.write(`${next.value}\n`);
          pending++;
        }
        if (pending === 0) break;
      }
      const line = await reader.line();
      if (line === undefined) break;
      const [id, type, length] = line.split(' ');
      if (!TYPES.includes(type)) throw damaged(`lacks the object ${id}`);
      const size = Number(length);
      const hash = createHash(id.length === 64 ? 'sha256' : 'sha1').update(`${type} ${size}\0`);
      const check = () => {
        if (hash.digest('hex') !== id) throw damaged(`has something else for the object ${id}`);
      };
      if (size <= SMALL) {
        const content = await reader.take(size);
        hash.update(content);
        check();
        yield { id, type: type as GitObjectType, size, content };
      } else {
        yield { id, type: type as GitObjectType, size, content: checked(reader.pieces(size)) };
        async function* checked(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
          for await (const piece of pieces) {
            hash.update(piece);
            yield piece;
          }
          check();
        }
      }
      await reader.take(1);
    }
    await asked;
    git.stdin.end();
    await git.ended;
  } catch (error) {
    // Why git has ended says more than that its output has.
    git.stop();
    await git.ended;
    throw error;
  } finally {
    git.stop();
  }
}

/** At the pace at which git reads. */
async function ask(stdin: NodeJS.WritableStream, ids: Iterator<string, undefined>): Promise<void> {
  let lines: string[] = [];
  const write = async () => {
    const text = `${lines.join('\n')}\n`;
    lines = [];
    if (!stdin.write(text))
      await new Promise((resolve) => stdin.once('drain', resolve).once('close', resolve));
  };
  for (let next = ids.next(); next.value !== undefined; next = ids.next()) {
    lines.push(next.value);
    if (lines.length === REQUESTS) await write();
  }
  if (lines.length > 0) await write();
  stdin.end();
}
