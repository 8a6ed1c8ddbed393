import {
  CorruptBlockError,
  type DirectoryEntry,
  type FileEntry,
  formatLink,
  InvalidNodeError,
  isMissing,
  type Link,
  type LocalStore,
  readRecords,
  rootEntry,
  treeRecords,
} from '@lazytree/core';
import type { SignedRef } from '../refs/signed-ref.js';
import type { Answer, Get, Request, Tree } from './exchange.js';
import { HAVE_ROOTS, LINKS, REFS } from './limits.js';
import { decodeLinks, encodeLinks } from './link-list.js';

export interface AnswerSources {
  store: LocalStore;
  /** Waits for a block that this machine is fetching itself; undefined when it is not. */
  awaited(link: Link, signal: AbortSignal): Promise<boolean> | undefined;
  /** A block that is here is damaged: another may be had. */
  repair(link: Link): void;
  refs(filter: { name: string; owner: string }): SignedRef[];
  announced(peer: string, announce: NonNullable<Request['announce']>): void;
  resolved(reference: string, integrity: string): Link | undefined;
  /** The files of a tree in the order in which they are likely to be read. */
  order(root: Link): Promise<readonly Link[]>;
  /** Runs what somebody waits for at once, and holds back all else meanwhile. */
  urgently<T>(task: () => Promise<T>): Promise<T>;
  quiet(): Promise<void>;
}

/** Statements of refs, as many in a list as a message may have. */
export function* inMessages(refs: readonly SignedRef[]): Generator<SignedRef[]> {
  for (let at = 0; at < refs.length; at += REFS) yield refs.slice(at, at + REFS);
}

/** What comes of a request from a member: messages up to the last, which the caller adds. */
export type Answering = (
  request: Request,
  asker: { peer: string; signal: AbortSignal },
) => AsyncGenerator<Partial<Answer>>;

export function createAnswering(sources: AnswerSources): Answering {
  const { store } = sources;

  async function* get({ links, urgent, patient }: Get, signal: AbortSignal): AsyncGenerator<Partial<Answer>> {
    let late: Link[] = [];
    const parts = readRecords(store, decodeLinks(links, LINKS), { signal });
    for (;;) {
      if (!urgent) await sources.quiet();
      const read = () => parts.next();
      const { value, done } = await (urgent ? sources.urgently(read) : read());
      if (done) break;
      const { records, missing, damaged } = value;
      damaged.forEach(sources.repair);
      if (patient) late = late.concat(missing);
      const absent = patient ? damaged : [...missing, ...damaged];
      if (records.length + absent.length > 0) yield { records, missing: encodeLinks(absent) };
    }
    yield* awaitLate(late, signal);
  }

  /** Blocks that are on their way here, in batches of what has come meanwhile. */
  async function* awaitLate(links: readonly Link[], signal: AbortSignal): AsyncGenerator<Partial<Answer>> {
    const ready: Link[] = [];
    const missing: Link[] = [];
    let open = 0;
    let wake = Promise.withResolvers<void>();
    for (const link of links) {
      const coming = sources.awaited(link, signal);
      if (!coming) {
        missing.push(link);
        continue;
      }
      open += 1;
      coming
        .then(
          (here) => (here ? ready : missing).push(link),
          () => missing.push(link),
        )
        .finally(() => {
          open -= 1;
          wake.resolve();
        });
    }
    for (;;) {
      signal.throwIfAborted();
      if (missing.length > 0) yield { missing: encodeLinks(missing.splice(0)) };
      if (ready.length > 0) {
        for await (const { records, missing: gone, damaged } of readRecords(store, ready.splice(0), {
          signal,
        })) {
          yield { records, missing: encodeLinks([...gone, ...damaged]) };
        }
      } else if (missing.length === 0) {
        if (open === 0) return;
        wake = Promise.withResolvers();
        await wake.promise;
      }
    }
  }

  async function* tree(
    { root, have, content: most }: Tree,
    signal: AbortSignal,
  ): AsyncGenerator<Partial<Answer>> {
    const [link] = decodeLinks(root, 1);
    if (!link) return;
    try {
      const content = most > 0 && (await holdsNoMore(link, most)) ? most : 0;
      const options = { have: decodeLinks(have, HAVE_ROOTS), content, signal };
      for await (const { records, missing } of treeRecords(store, link, options))
        yield { records, missing: encodeLinks(missing) };
    } catch (error) {
      // What is no tree is sent by nobody: whoever asks for its blocks one by one finds out.
      if (!(error instanceof InvalidNodeError)) throw error;
      yield { refusal: `${formatLink(link)} is no tree` };
      return;
    }
    const order = await sources.order(link);
    if (order.length > 0) yield { order: encodeLinks(order) };
  }

  /** Also false for a root that is missing or damaged, which is answered as such. */
  async function holdsNoMore(root: Link, bytes: number): Promise<boolean> {
    try {
      const { size } = (await rootEntry(store, root)) as DirectoryEntry | FileEntry;
      return size <= bytes;
    } catch (error) {
      if (isMissing(error) || error instanceof CorruptBlockError) return false;
      throw error;
    }
  }

  return async function* answer(request, { peer, signal }) {
    if (request.get) yield* get(request.get, signal);
    else if (request.have) {
      const present: Link[] = [];
      for (const link of decodeLinks(request.have.links, LINKS))
        if (await store.has(link)) present.push(link);
      yield { present: encodeLinks(present) };
    } else if (request.tree) yield* tree(request.tree, signal);
    else if (request.resolve) {
      const link = sources.resolved(request.resolve.reference, request.resolve.integrity);
      if (link) yield { resolved: encodeLinks([link]) };
    } else if (request.refs) for (const refs of inMessages(sources.refs(request.refs))) yield { refs };
    else if (request.announce) sources.announced(peer, request.announce);
    else yield { refusal: 'an unknown request' };
  };
}
