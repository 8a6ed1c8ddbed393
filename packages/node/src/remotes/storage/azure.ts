import { createHash, randomUUID } from 'node:crypto';
import type { BlobDownloadResponseParsed, BlobRequestConditions, BlockBlobClient } from '@azure/storage-blob';
import { LazytreeError } from '@lazytree/core/errors';
import type { AzureAccess } from '../credentials.js';
import { type AttemptSignal, attemptSignal } from './attempt-signal.js';
import { type AzureClient, connectAzure } from './azure-client.js';
import { headerOf, isUncertain, judgeAzureFailure, serviceCodeOf, statusOf } from './azure-failure.js';
import { checkObjectName } from './object-name.js';
import { inPieces, totalLength } from './pieces.js';
import type { GetObjectOptions, ObjectInfo, PutObjectOptions, Storage, StoredObject } from './storage.js';
import { type RetryLimits, tryAgain } from './try-again.js';

export interface AzureLimits extends RetryLimits {
  /** Milliseconds without a byte after which an attempt is given up. */
  idleMs: number;
  /** Bytes a second that a body has at least: an attempt that is slower is given up. */
  leastRate: number;
  /** Bytes of a body that goes up with one request; a larger one goes in blocks. */
  singlePut: number;
  blockBytes: number;
  /** Blocks at a time. */
  blocksAtOnce: number;
  /** Names of a page of a list. */
  pageSize: number;
}

/**
 * One request for a body of up to 32 MiB, so that a pack costs one; what is larger than that is repeated in smaller
 * pieces when a connection is cut.
 */
const LIMITS: AzureLimits = {
  attempts: 6,
  withinMs: 60_000,
  pauseMs: 500,
  longestPauseMs: 10_000,
  idleMs: 30_000,
  leastRate: 64 << 10,
  singlePut: 32 << 20,
  blockBytes: 16 << 20,
  blocksAtOnce: 4,
  pageSize: 5000,
};

export interface AzureStorageOptions {
  access: AzureAccess;
  container: string;
  /** Without slashes at its ends; may be empty. */
  prefix: string;
  limits?: Partial<AzureLimits>;
}

/** Bytes of an attempt that make up for its failure: the next one goes on from there. */
const PROGRESS = 64 << 10;
/** What one answer may have; more is read in ranges. */
const MOST_BYTES = 2 ** 31 - 1;
/** Each put marks what it writes, so that it knows it again when the answer was lost. */
const MARK = 'lazytreewrite';
/** Nothing has this name: what is asked for it has the time in its answer, and takes no right but that to read. */
const NOBODY = 'no-such-object';

/** Objects as block blobs of a container. */
export async function openAzureStorage(options: AzureStorageOptions): Promise<Storage> {
  const { access, container, prefix } = options;
  const limits = { ...LIMITS, ...options.limits };
  const client = await connectAzure(access, container);
  const { endpoint, account } = access;
  const isCustom = endpoint !== `https://${account}.blob.core.windows.net`;
  const url = `azure://${[account, container, prefix].filter((part) => part !== '').join('/')}`;
  const where = isCustom ? `${url} (${endpoint})` : url;
  const begin = prefix === '' ? '' : `${prefix}/`;

  const blobOf = (name: string) => {
    checkObjectName(name);
    return client.container.getBlockBlobClient(begin + name);
  };

  const session: Session = {
    client,
    limits,
    attempt(task, { signal, doing, bytes = 0 }) {
      const judge = (error: unknown) => {
        return judgeAzureFailure(error, { doing, account, container, via: access.via, endpoint });
      };
      return tryAgain(
        async (progressed) => {
          const watch = attemptSignal(signal, limits);
          watch.expect(bytes);
          try {
            return await task(watch, progressed);
          } catch (error) {
            if (watch.isOver())
              throw new LazytreeError('NETWORK', `${doing}: the storage does not answer in time`);
            throw error;
          } finally {
            watch.release();
          }
        },
        { signal, limits, judge },
      );
    },
  };

  return {
    describe: () => where,
    get: (name, given) =>
      getBlob(session, blobOf(name), { ...given, name, doing: `reading ${name} of ${where}` }),
    put(name, bytes, given) {
      return putBlob(session, blobOf(name), { ...given, bytes, doing: `writing ${name} to ${where}` });
    },

    touch(name, { signal }) {
      const blob = blobOf(name);
      return session.attempt(
        async ({ signal: abortSignal }) => {
          try {
            await blob.setMetadata({ [MARK]: randomUUID() }, { abortSignal });
            return true;
          } catch (error) {
            if (isBlobMissing(error)) return false;
            throw error;
          }
        },
        { signal, doing: `touching ${name} of ${where}` },
      );
    },

    async *list(wanted, { signal }) {
      let continuationToken: string | undefined;
      do {
        const token = continuationToken;
        const page = await session.attempt(
          async ({ signal: abortSignal }) => {
            const pages = client.container
              .listBlobsFlat({ prefix: begin + wanted, abortSignal })
              .byPage({ maxPageSize: limits.pageSize, ...(token ? { continuationToken: token } : {}) });
            return (await pages.next()).value;
          },
          { signal, doing: `listing ${where}` },
        );
        for (const { name, properties } of page?.segment.blobItems ?? []) {
          const { contentLength = 0, etag, lastModified } = properties;
          const modified = lastModified.getTime();
          yield { name: name.slice(begin.length), size: contentLength, version: versionOf(etag), modified };
        }
        continuationToken = page?.continuationToken || undefined;
      } while (continuationToken !== undefined);
    },

    delete(name, { signal, version }) {
      const blob = blobOf(name);
      return session.attempt(
        async ({ signal: abortSignal }) => {
          try {
            await blob.delete({ abortSignal, deleteSnapshots: 'include', conditions: ifVersion(version) });
            return true;
          } catch (error) {
            // Also when an attempt before this one has deleted it.
            if (isBlobMissing(error)) return true;
            if (serviceCodeOf(error) !== 'ConditionNotMet') throw error;
            // Said of what is not there, too.
            return !(await blob.exists({ abortSignal }));
          }
        },
        { signal, doing: `deleting ${name} from ${where}` },
      );
    },

    now({ signal }) {
      const doing = `asking ${where} for the time`;
      return session.attempt(
        async ({ signal: abortSignal }) => {
          let date: string | undefined;
          try {
            date = (await blobOf(NOBODY).getProperties({ abortSignal })).date?.toUTCString();
          } catch (error) {
            if (!isBlobMissing(error)) throw error;
            date = headerOf(error, 'date');
          }
          const time = Date.parse(date ?? '');
          if (!Number.isNaN(time)) return time;
          throw new LazytreeError('NETWORK', `${doing}: the answer has no date`);
        },
        { signal, doing },
      );
    },

    traffic: () => ({ ...client.traffic }),
    async close() {
      client.close();
    },
  };
}

interface AttemptOptions {
  signal: AbortSignal;
  doing: string;
  /** Of the body that goes up. */
  bytes?: number;
}

interface Session {
  client: AzureClient;
  limits: AzureLimits;
  attempt<T>(
    task: (watch: AttemptSignal, progressed: () => void) => Promise<T>,
    options: AttemptOptions,
  ): Promise<T>;
}

function versionOf(etag: string | undefined): string {
  return (etag ?? '').replace(/^"|"$/g, '');
}

function ifVersion(version: string | undefined): BlobRequestConditions {
  return version === undefined ? {} : { ifMatch: `"${version}"` };
}

function isBlobMissing(error: unknown): boolean {
  return statusOf(error) === 404 && /^(?:BlobNotFound|ResourceNotFound)$/.test(serviceCodeOf(error) ?? '');
}

function isConditionFailure(error: unknown): boolean {
  return /^(?:BlobAlreadyExists|ConditionNotMet)$/.test(serviceCodeOf(error) ?? '');
}

/** What has come so far of an object, over several attempts. */
interface Arrived {
  info: ObjectInfo;
  bytes: Buffer;
  filled: number;
  /** Of all of it, in base64. */
  md5: string | undefined;
}

interface GetBlobOptions extends GetObjectOptions {
  name: string;
  doing: string;
}

function getBlob(
  { client, attempt }: Session,
  blob: BlockBlobClient,
  { name, range, signal, doing }: GetBlobOptions,
): Promise<StoredObject | undefined> {
  let arrived: Arrived | undefined;
  const broken = (why: string) => new LazytreeError('NETWORK', `${doing}: ${why}`);

  return attempt(
    async (watch, progressed) => {
      if (range?.length === 0) return nothingOf(watch.signal);
      const before = arrived?.filled ?? 0;
      const offset = (range?.offset ?? 0) + before;
      const count = range && range.length - before;
      let answer: BlobDownloadResponseParsed;
      try {
        const conditions = ifVersion(arrived?.info.version);
        answer = await blob.download(offset, count, {
          abortSignal: watch.signal,
          conditions,
          maxRetryRequests: 0,
        });
      } catch (error) {
        if (isBlobMissing(error)) return undefined;
        if (statusOf(error) === 416) return nothingOf(watch.signal);
        if (serviceCodeOf(error) !== 'ConditionNotMet') throw error;
        arrived = undefined;
        progressed();
        throw broken('it was replaced while it was read');
      }
      arrived ??= begun(answer);
      const { bytes } = arrived;
      watch.expect(bytes.length - before);
      try {
        await fill(answer, arrived, watch);
      } finally {
        if (arrived.filled - before >= PROGRESS) progressed();
      }
      if (arrived.filled < bytes.length) throw broken('the answer ended early');
      if (range === undefined && arrived.md5 !== undefined && md5Of([bytes]) !== arrived.md5) {
        arrived = undefined;
        throw broken('bytes were changed on their way');
      }
      return { ...arrived.info, bytes };
    },
    { signal, doing },
  );

  function begun({
    contentLength,
    contentRange,
    contentMD5,
    etag,
    lastModified,
  }: BlobDownloadResponseParsed): Arrived {
    const length = contentLength ?? 0;
    const size = contentRange === undefined ? length : Number(/\/(\d+)$/.exec(contentRange)?.[1]);
    if (!Number.isSafeInteger(size)) throw broken('the answer does not say how large it is');
    if (range ? length > range.length : length > MOST_BYTES) throw broken(`an answer of ${length} bytes`);
    const modified = lastModified?.getTime() ?? 0;
    return {
      info: { name, size, version: versionOf(etag), modified },
      bytes: Buffer.allocUnsafe(length),
      filled: 0,
      md5: contentMD5 && Buffer.from(contentMD5).toString('base64'),
    };
  }

  async function fill(
    answer: BlobDownloadResponseParsed,
    into: Arrived,
    watch: AttemptSignal,
  ): Promise<void> {
    for await (const part of answer.readableStreamBody as AsyncIterable<Buffer>) {
      watch.moved();
      client.traffic.received += part.length;
      if (into.filled + part.length > into.bytes.length) throw broken('the answer is too long');
      part.copy(into.bytes, into.filled);
      into.filled += part.length;
    }
  }

  /** Of what has no bytes in the range. */
  async function nothingOf(abortSignal: AbortSignal): Promise<StoredObject | undefined> {
    try {
      const { contentLength: size = 0, etag, lastModified } = await blob.getProperties({ abortSignal });
      const modified = lastModified?.getTime() ?? 0;
      return { name, size, version: versionOf(etag), modified, bytes: Buffer.alloc(0) };
    } catch (error) {
      if (isBlobMissing(error)) return undefined;
      throw error;
    }
  }
}

interface PutBlobOptions extends PutObjectOptions {
  bytes: readonly Uint8Array[];
  doing: string;
}

async function putBlob(
  session: Session,
  blob: BlockBlobClient,
  { bytes, signal, expected, doing }: PutBlobOptions,
): Promise<{ version: string } | undefined> {
  const size = totalLength(bytes);
  const mark = randomUUID();
  const common = {
    conditions: expected === 'nothing' ? { ifNoneMatch: '*' } : ifVersion(expected?.version),
    metadata: { [MARK]: mark },
  };
  const blobHTTPHeaders = { blobContentMD5: createMd5(bytes) };
  if (size <= session.limits.singlePut) {
    return decide(size, ({ signal: abortSignal, moved }) =>
      blob.upload(session.client.body(bytes, moved), size, { ...common, abortSignal, blobHTTPHeaders }),
    );
  }
  for (let round = 1; ; round++) {
    const blocks = await stageBlocks(session, blob, { bytes, signal, doing });
    try {
      return await decide(0, ({ signal: abortSignal }) =>
        blob.commitBlockList(blocks, { ...common, abortSignal, blobHTTPHeaders }),
      );
    } catch (error) {
      // Another writer's blocks became the blob, and ours were dropped with that.
      if (!(error instanceof LostBlocks) || round === session.limits.attempts) throw error;
    }
  }

  /** Carries out the request that makes the object. */
  function decide(length: number, task: (watch: AttemptSignal) => Promise<{ etag?: string }>) {
    let uncertain = false;
    return session.attempt<{ version: string } | undefined>(
      async (watch) => {
        try {
          return { version: versionOf((await task(watch)).etag) };
        } catch (error) {
          if (serviceCodeOf(error) === 'InvalidBlockList') throw new LostBlocks(doing);
          if (expected === undefined || !isConditionFailure(error)) {
            uncertain ||= isUncertain(error);
            throw error;
          }
          return uncertain ? await ownVersion(watch.signal) : undefined;
        }
      },
      { signal, doing, bytes: length },
    );
  }

  /** The version that is there, if an attempt whose answer was lost has made it. */
  async function ownVersion(abortSignal: AbortSignal): Promise<{ version: string } | undefined> {
    try {
      const { etag, metadata } = await blob.getProperties({ abortSignal });
      return metadata?.[MARK] === mark ? { version: versionOf(etag) } : undefined;
    } catch (error) {
      if (isBlobMissing(error)) return undefined;
      throw error;
    }
  }
}

/** Blocks that were staged are not there any more. */
class LostBlocks extends LazytreeError {
  constructor(doing: string) {
    super('FAILED', `${doing}: others write it all the time`);
  }
}

interface StageOptions {
  bytes: readonly Uint8Array[];
  signal: AbortSignal;
  doing: string;
}

/** @returns their ids, in order */
async function stageBlocks(
  { client, limits, attempt }: Session,
  blob: BlockBlobClient,
  { bytes, signal, doing }: StageOptions,
): Promise<string[]> {
  // Of one length, and nobody else's: blocks of two writers are not mixed.
  const own = randomUUID();
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const ids: string[] = [];
  const blocks = inPieces(bytes, limits.blockBytes);
  const worker = async () => {
    for (const block of blocks) {
      const id = Buffer.from(`${own}-${String(ids.length).padStart(6, '0')}`).toString('base64');
      ids.push(id);
      const size = totalLength(block);
      const transactionalContentMD5 = createMd5(block);
      await attempt(
        ({ signal: abortSignal, moved }) =>
          blob.stageBlock(id, client.body(block, moved), size, { abortSignal, transactionalContentMD5 }),
        { signal: either, doing, bytes: size },
      );
    }
  };
  const workers = Array.from({ length: limits.blocksAtOnce }, worker);
  try {
    await Promise.all(workers);
  } catch (error) {
    stop.abort();
    await Promise.allSettled(workers);
    throw error;
  }
  return ids;
}

function createMd5(parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('md5');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function md5Of(parts: readonly Uint8Array[]): string {
  return createMd5(parts).toString('base64');
}
