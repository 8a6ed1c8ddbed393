import { CorruptBlockError } from '../errors.js';
import type { Link } from '../format/link.js';
import type { Location } from './block-index.js';
import type { StoreOptions } from './block-store.js';
import type { LocalStore } from './local.js';
import { checkRecord, encodeRecord, RECORD_HEADER, type RecordHeader } from './record.js';

/** Some of the records asked for, one after another as they are stored. */
export interface RecordBatch {
  records: Buffer;
  /** What `records` has, in its order. */
  found: { link: Link; offset: number; header: RecordHeader }[];
  missing: Link[];
  /** Here, and not what they were. */
  damaged: Link[];
}

/** Bytes of records in a batch; one larger record is a batch of its own. */
const BATCH_BYTES = 256 << 10;
/** Bytes between two records that are read with them, rather than read twice. */
const GAP = 8 << 10;

/**
 * Records as the store has them, checked and not decompressed, in the order in which they lie on the disk. Until it
 * ends, a lease keeps them.
 */
export async function* readRecords(
  store: LocalStore,
  links: readonly Link[],
  { signal }: StoreOptions = {},
): AsyncGenerator<RecordBatch> {
  const lease = store.lease();
  try {
    const { located, elsewhere } = locate(store, links);
    let batch = emptyBatch();
    for (const run of runsOf(located)) {
      signal?.throwIfAborted();
      const [{ location: first }] = run;
      const bytes = store.segments.read(first, endOf(run[run.length - 1]) - first.offset);
      for (const { link, location } of run) {
        const start = location.offset - first.offset;
        const record = bytes.subarray(start, start + RECORD_HEADER + location.stored);
        add(batch, link, record, store.directory);
        if (batch.bytes < BATCH_BYTES) continue;
        yield finish(batch);
        batch = emptyBatch();
      }
      // What one read has brought goes as it is; more would have to be joined with it.
      if (batch.bytes < BATCH_BYTES / 2) continue;
      yield finish(batch);
      batch = emptyBatch();
    }
    for (const link of elsewhere) {
      signal?.throwIfAborted();
      if (await store.has(link)) add(batch, link, encodeRecord(link, await store.get(link)), store.directory);
      else batch.missing.push(link);
      if (batch.bytes < BATCH_BYTES) continue;
      yield finish(batch);
      batch = emptyBatch();
    }
    if (batch.parts.length + batch.missing.length + batch.damaged.length > 0) yield finish(batch);
  } finally {
    lease.release();
  }
}

interface Located {
  link: Link;
  location: Location;
}

interface OpenBatch extends Omit<RecordBatch, 'records'> {
  parts: Buffer[];
  bytes: number;
}

function emptyBatch(): OpenBatch {
  return { parts: [], bytes: 0, found: [], missing: [], damaged: [] };
}

function finish({ parts, bytes, ...rest }: OpenBatch): RecordBatch {
  return { records: adjacent(parts) ?? Buffer.concat(parts, bytes), ...rest };
}

/** Parts of one buffer that follow each other, without a copy. */
function adjacent(parts: readonly Buffer[]): Buffer | undefined {
  if (parts.length === 0) return undefined;
  const [{ buffer, byteOffset: start }] = parts;
  let end = start;
  for (const part of parts) {
    if (part.buffer !== buffer || part.byteOffset !== end) return undefined;
    end += part.length;
  }
  return Buffer.from(buffer, start, end - start);
}

function add(batch: OpenBatch, link: Link, record: Buffer, directory: string): void {
  let header: RecordHeader;
  try {
    header = checkRecord(link, record, directory);
  } catch (error) {
    if (!(error instanceof CorruptBlockError)) throw error;
    batch.damaged.push(link);
    return;
  }
  batch.found.push({ link, offset: batch.bytes, header });
  batch.parts.push(record);
  batch.bytes += record.length;
}

/** What is put and not appended yet has no place. */
function locate(store: LocalStore, links: readonly Link[]): { located: Located[]; elsewhere: Link[] } {
  const located: Located[] = [];
  const elsewhere: Link[] = [];
  for (const link of links) {
    const location = store.locate(link);
    if (location) located.push({ link, location });
    else elsewhere.push(link);
  }
  located.sort(({ location: a }, { location: b }) => a.segment - b.segment || a.offset - b.offset);
  return { located, elsewhere };
}

function endOf({ location: { offset, stored } }: Located): number {
  return offset + RECORD_HEADER + stored;
}

/** Records that one read brings: near each other, and no more than a batch. */
function* runsOf(located: readonly Located[]): Generator<Located[]> {
  let run: Located[] = [];
  for (const one of located) {
    const [first] = run;
    const last = run[run.length - 1];
    const near =
      first &&
      one.location.segment === first.location.segment &&
      one.location.offset - endOf(last) < GAP &&
      endOf(one) - first.location.offset <= BATCH_BYTES;
    if (first && !near) {
      yield run;
      run = [];
    }
    run.push(one);
  }
  if (run.length > 0) yield run;
}
