import { createRecordedTree, type DirectoryEntry, plainError, raiseAgain, serveJobs } from '@lazytree/core';
import type { OriginProgress } from '../driver.js';
import { download } from './download.js';
import type { NpmConfig } from './npm-config.js';
import type { Unlinked } from './npm-reference.js';
import { createPlaces } from './places.js';
import { type PackageManifest, unpackPackage } from './unpack-package.js';

export interface PackageJob {
  id: number;
  url: string;
  /** The package, for errors. */
  what: string;
  integrity: string | undefined;
  unlinked: Unlinked | undefined;
  /** Names settings that a thread asks for once. */
  config: number;
  /** Whether nobody waits for it when it begins: it asks for its turn to be unpacked, as somebody may by then. */
  isAhead: boolean;
}

/** About the job of that id. */
export type PackageQuestion =
  | { type: 'config' | 'turn' | 'cache-directory'; id: number }
  | { type: 'progress'; id: number; progress: OriginProgress };

/** Of a question that could not be answered there is the error, as `plainError` makes it. */
export type PackageAnswer = { value: NpmConfig | string | undefined } | { error: unknown };

export interface FetchedPackage {
  integrity: string;
  bytes: number;
  requests: number;
  /** What it came to, or the tarball, or the path of the file that it is in: of one that is large, unpacked or not. */
  content: UnpackedPackage | Uint8Array | string;
}

export interface UnpackedPackage {
  entry: DirectoryEntry;
  /** Of the blocks below it, in memory of their own. */
  records: Uint8Array<ArrayBuffer>;
  scripts: PackageManifest['scripts'];
}

type Ask = (question: PackageQuestion) => Promise<NpmConfig | string | undefined>;

/** One after another: nothing is waited for meanwhile, and what is unpacked is in memory. */
const unpacking = createPlaces(1);
const MAX_CONFIGS = 8;
/** Bytes between two reports of what is large. */
const PROGRESS_BYTES = 1 << 20;

const configs = new Map<number, Promise<NpmConfig>>();

serveJobs<PackageJob, FetchedPackage, PackageQuestion, PackageAnswer>(
  (job, ask, signal) =>
    plainError(() =>
      fetchPackage(
        job,
        async (question) => {
          const answer = await ask(question);
          return 'error' in answer ? raiseAgain(Promise.reject(answer.error), job.what) : answer.value;
        },
        signal,
      ),
    ),
  ({ content }) => {
    if (typeof content === 'string') return [];
    return [(content instanceof Uint8Array ? content : content.records).buffer as ArrayBuffer];
  },
);

/** Downloads a tarball, and unpacks it unless it is so large that it is to be unpacked as a stream. */
async function fetchPackage(
  { id, url, what, integrity, unlinked, config, isAhead }: PackageJob,
  ask: Ask,
  signal: AbortSignal,
): Promise<FetchedPackage> {
  const cost = { bytes: 0, requests: 0 };
  let reported = 0;
  const context = {
    signal,
    isAhead: () => isAhead,
    cacheDirectory: async () => (await ask({ type: 'cache-directory', id })) as string,
    onProgress(progress: OriginProgress) {
      if (progress.bytes - reported < PROGRESS_BYTES) return;
      reported = progress.bytes;
      void ask({ type: 'progress', id, progress });
    },
    onReceived(bytes: number, requests: number) {
      cost.bytes += bytes;
      cost.requests += requests;
    },
  };
  const request = { url, what, config: await configOf(config, () => ask({ type: 'config', id })), context };
  const { content, integrity: found } = await download(request, integrity);
  const done = (made: FetchedPackage['content']) => ({ integrity: found, ...cost, content: made });
  if (typeof content === 'string') return done(content);
  if (isAhead) await ask({ type: 'turn', id });
  const unpacked = await unpacking(() => unpack(content, { what, unlinked }), context);
  return done(unpacked ?? ownBytes(content));
}

/** Resolves to nothing when it is larger unpacked than is done at once. */
async function unpack(
  tarball: Buffer,
  { what, unlinked }: Pick<PackageJob, 'what' | 'unlinked'>,
): Promise<UnpackedPackage | undefined> {
  const tree = createRecordedTree(NEVER);
  const manifest = await unpackPackage(tree, tarball, { what, signal: NEVER, unlinked, atOnce: true });
  if (!manifest) return undefined;
  return { entry: await tree.finish(), records: ownBytes(tree.records()), scripts: manifest.scripts };
}

const NEVER = new AbortController().signal;

function configOf(key: number, ask: () => Promise<unknown>): Promise<NpmConfig> {
  const known = configs.get(key);
  if (known) return known;
  const config = ask() as Promise<NpmConfig>;
  configs.set(key, config);
  config.catch(() => configs.delete(key));
  if (configs.size > MAX_CONFIGS) configs.delete(configs.keys().next().value as number);
  return config;
}

/** Small buffers are parts of one that others are parts of, too: that must not move. */
function ownBytes(bytes: Buffer): Uint8Array<ArrayBuffer> {
  const isWhole = bytes.buffer.byteLength === bytes.length;
  return isWhole ? new Uint8Array(bytes.buffer as ArrayBuffer) : new Uint8Array(bytes);
}
