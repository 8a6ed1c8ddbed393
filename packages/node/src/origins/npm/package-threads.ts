import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { createThreadPool, plainError, raiseAgain, type ThreadPool } from '@lazytree/core';
import type { NpmConfig } from './npm-config.js';
import type { Unlinked } from './npm-reference.js';
import type { FetchedPackage, PackageAnswer, PackageJob, PackageQuestion } from './package-thread.js';
import { createPlaces } from './places.js';
import type { RegistryRequest } from './registry-request.js';

type Pool = ThreadPool<PackageJob, FetchedPackage>;

/** A job under way, for what its thread asks. */
interface UnderWay extends RegistryRequest {
  ended: Promise<unknown>;
}

/** Packages before threads are worth their start, with no longer between two of them than the time after which threads end. */
const FEW = 4;
const IDLE_MS = 10_000;
const MOST_THREADS = 4;
/** One processor is for whoever waits. A second thread on two of them costs more to get going than it takes over. */
const THREADS = Math.max(1, Math.min(availableParallelism() - 1, MOST_THREADS));

/** Packages that nobody waits for are unpacked so many at a time, for what somebody waits for to come soon after them. */
const turns = createPlaces(2 * THREADS);
const underWay = new Map<number, UnderWay>();
const configKeys = new WeakMap<NpmConfig, number>();

let pool: Pool | undefined;
let recent = 0;
let nextId = 0;
let idle: NodeJS.Timeout | undefined;

/**
 * Downloads and unpacks a tarball in a thread when there are many, so that neither its bytes nor the work keep from
 * going on whoever waits for something else. Nothing where it is to be done here.
 *
 * @throws LazytreeError NOT_FOUND, REFUSED, NETWORK, CORRUPT, NO_SPACE
 */
export async function fetchInThread(
  request: RegistryRequest,
  { integrity, unlinked }: { integrity: string | undefined; unlinked: Unlinked | undefined },
): Promise<FetchedPackage | undefined> {
  if (++recent <= FEW && !pool) {
    restLater();
    return undefined;
  }
  const used = startPackageThreads();
  const { url, what, config, context } = request;
  const { signal } = context;
  const id = nextId++;
  const ended = Promise.withResolvers<void>();
  underWay.set(id, { ...request, ended: ended.promise });
  const job = { id, url, what, integrity, unlinked, config: keyOf(config), isAhead: context.isAhead() };
  context.onProgress({ doing: `downloading ${what}`, bytes: 0 });
  const fetched = used.run(job, [], signal);
  fetched.catch((error: unknown) => {
    // Of the thread itself: those that come next get another one.
    if (error instanceof Error && !signal.aborted && pool === used) pool = undefined;
  });
  try {
    const found = await raiseAgain(fetched, `fetching ${what}`);
    context.onReceived(found.bytes, found.requests);
    if (signal.aborted && typeof found.content === 'string') await rm(found.content, { force: true });
    return found;
  } finally {
    ended.resolve();
    underWay.delete(id);
    signal.throwIfAborted();
  }
}

/** Also for packages that are likely to come: it takes longer than to unpack one. */
export function startPackageThreads(): Pool {
  restLater();
  pool ??= createThreadPool<PackageJob, FetchedPackage, PackageQuestion, PackageAnswer>({
    script: new URL('./package-thread.js', import.meta.url),
    data: undefined,
    threads: THREADS,
    mayEnd: true,
    serve: (question) =>
      plainError(() => answer(question)).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      ),
  });
  return pool;
}

async function answer(question: PackageQuestion): Promise<NpmConfig | string | undefined> {
  const job = underWay.get(question.id);
  if (!job) return undefined;
  const { config, context, ended } = job;
  switch (question.type) {
    case 'config':
      return forOneOf(THREADS, config);
    case 'cache-directory':
      return context.cacheDirectory();
    case 'progress':
      context.onProgress(question.progress);
      return undefined;
    case 'turn': {
      const turn = Promise.withResolvers<undefined>();
      const held = turns(() => {
        turn.resolve(undefined);
        return ended;
      }, context);
      held.catch(turn.reject);
      return turn.promise;
    }
  }
}

/** Threads have connections of their own: together as many as npm would have. */
function forOneOf(threads: number, config: NpmConfig): NpmConfig {
  const { maxSockets } = config;
  if (typeof maxSockets !== 'number') return config;
  return { ...config, maxSockets: Math.max(1, Math.floor(maxSockets / threads)) };
}

function keyOf(config: NpmConfig): number {
  const key = configKeys.get(config) ?? nextId++;
  configKeys.set(config, key);
  return key;
}

function restLater(): void {
  idle = idle?.refresh() ?? setTimeout(rest, IDLE_MS).unref();
}

function rest(): void {
  if (underWay.size > 0) {
    idle?.refresh();
    return;
  }
  const ended = pool;
  idle = undefined;
  pool = undefined;
  recent = 0;
  void ended?.close();
}
