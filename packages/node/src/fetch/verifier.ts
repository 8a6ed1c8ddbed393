import { availableParallelism } from 'node:os';
import {
  contentOfRecord,
  createReceivedChecker,
  createThreadPool,
  type ReceivedChecker,
  type ReceivedRecord,
  splitReceived,
  type ThreadPool,
  UntrueRecordError,
} from '@lazytree/core';
import type { Checked, CheckJob } from './verify-thread.js';

/** Records that are true: see `createReceivedChecker`. */
export interface Verified {
  bytes: Buffer;
  records: readonly ReceivedRecord[];
  content(index: number): Uint8Array;
}

/** Finds out whether what has come is true; on threads when much comes, since others wait for this one. */
export interface Verifier {
  /** Says that so many bytes are about to come: threads take a while to start. */
  expect(bytes: number): void;
  /**
   * @param exclusive nobody else has the buffer that the bytes are in: they need not be copied, and are to be used as
   *   they come back
   * @throws UntrueRecordError
   */
  verify(bytes: Buffer, exclusive?: boolean): Promise<Verified>;
  /** The same for records that this process has made of blocks that it has hashed. */
  accept(bytes: Buffer): Verified;
  close(): Promise<void>;
}

/** Less is checked at once: handing it over takes as long. */
const LEAST_BYTES = 64 << 10;
/** Threads are started when so much comes within the time after which they end. */
const START_BYTES = 2 << 20;
const IDLE_MS = 10_000;
const MOST_THREADS = 4;

type Pool = ThreadPool<CheckJob, Checked>;

export function createVerifier(): Verifier {
  let starting: Promise<Pool> | undefined;
  let pool: Pool | undefined;
  let checkHere: ReceivedChecker | undefined;
  let recent = 0;
  let idle: NodeJS.Timeout | undefined;

  /** Threads take a while to start, and until then there is as much done here. */
  function start(): Promise<Pool> {
    const started = createThreadPool<CheckJob, Checked>({
      script: new URL('./verify-thread.js', import.meta.url),
      data: undefined,
      threads: Math.max(1, Math.min(availableParallelism() - 1, MOST_THREADS)),
    });
    return started.run({ buffer: new ArrayBuffer(0), offset: 0, length: 0 }).then(() => {
      pool = started;
      return started;
    });
  }

  async function stop(): Promise<void> {
    const ending = starting;
    starting = undefined;
    pool = undefined;
    recent = 0;
    await (await ending?.catch(() => undefined))?.close();
  }

  function count(bytes: number): void {
    recent += bytes;
    expect(recent);
  }

  function expect(bytes: number): void {
    if (idle) idle.refresh();
    else {
      idle = setTimeout(() => {
        idle = undefined;
        void stop();
      }, IDLE_MS).unref();
    }
    if (bytes < START_BYTES || starting) return;
    starting = start();
    // Without threads it is done here.
    starting.catch(() => undefined);
  }

  const verified = (bytes: Buffer, records: readonly ReceivedRecord[]): Verified => ({
    bytes,
    records,
    content: (index) => contentOfRecord(bytes, records[index]),
  });

  return {
    expect,
    accept: (bytes) => verified(bytes, splitReceived(bytes)),
    async verify(given, exclusive = false) {
      const records = splitReceived(given);
      count(given.length);
      let bytes = given;
      if (pool && bytes.length >= LEAST_BYTES) bytes = await checkOn(pool, bytes, exclusive);
      else {
        checkHere ??= createReceivedChecker();
        checkHere(bytes, records);
      }
      return verified(bytes, records);
    },
    async close() {
      clearTimeout(idle);
      await stop();
    },
  };
}

async function checkOn(pool: Pool, bytes: Buffer, exclusive: boolean): Promise<Buffer> {
  const { length } = bytes;
  const moved = exclusive ? bytes : new Uint8Array(bytes);
  const { byteOffset: offset } = moved;
  const job = { buffer: moved.buffer as ArrayBuffer, offset, length };
  const { buffer, problem } = await pool.run(job, [job.buffer]);
  if (problem !== undefined) throw new UntrueRecordError(problem);
  return Buffer.from(buffer, offset, length);
}
