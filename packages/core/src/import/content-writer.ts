import { MAX_CHUNK } from '../format/chunker.js';
import { encodeFile, type FilePart } from '../format/file-node.js';
import { type Codec, DAG_CBOR, digestOf, type Link, linkDigest, makeLink, RAW } from '../format/link.js';
import { RECORD_EFFORT } from '../store/record.js';
import { type Arena, createArena } from './arena.js';
import { type IngestSink, type NewBlock, storeBlocks } from './new-blocks.js';
import { type RecordHelper, takeRecordHelper } from './record-helper.js';

/** Stores content that comes as a stream, cut as an import cuts a file: the links are the same. */
export interface ContentWriter {
  /**
   * Resolves when the content is hashed; its blocks are in the sink after the next `drain`. Several may be under way.
   *
   * @throws what the content throws, the signal's reason, or what the sink could not do
   */
  write(content: AsyncIterable<Uint8Array> | Uint8Array): Promise<FilePart>;
  /** Resolves when the sink has all that was written. */
  drain(): Promise<void>;
  /** Lets go of what is not needed any more, also when there has been no `drain`. */
  close(): void;
}

const ARENA = 1 << 20;
/** Bytes that are put to the arena together. Twice that, and no more, may wait for their place. */
const TURN = ARENA / 2;
/** Arenas on their way into the sink before writers wait. */
const BATCHES = 3;
const SPARES = 4;
/** Batches before it is worth to have another thread at it, and those that it may have at a time. */
const HELPED = 4;
const HELPER_BATCHES = 2;
/** Pieces after which they are made one: a view of a byte takes more than a byte. */
const MANY_PIECES = 1000;

/** Memory of writers that are done: a small tree need not make its own. */
const spares: Arena[] = [];

interface Batch {
  arena: Arena;
  used: number;
  blocks: NewBlock[];
}

export interface ContentWriterOptions {
  signal: AbortSignal;
  /** No other thread helps. */
  alone?: boolean;
}

export function createContentWriter(
  sink: IngestSink,
  { signal, alone = false }: ContentWriterOptions,
): ContentWriter {
  const underWay = new Set<Promise<void>>();
  let batch: Batch | undefined;
  let failure: { error: unknown } | undefined;
  let batches = 0;
  let helper: RecordHelper | undefined;

  function check(): void {
    if (failure) throw failure.error;
    signal.throwIfAborted();
  }

  function current(): Batch {
    batch ??= { arena: spares.pop() ?? createArena(ARENA, RECORD_EFFORT), used: 0, blocks: [] };
    return batch;
  }

  /** Sends off what is in the arena; the next block begins another one. */
  function send(): void {
    if (!batch) return;
    const { arena, blocks } = batch;
    batch = undefined;
    if (++batches === HELPED && !alone) helper = takeRecordHelper();
    const helped = helper && helper.active() < HELPER_BATCHES;
    const sent = (
      helped ? (helper as RecordHelper).store(sink, blocks) : storeBlocks(sink, blocks, arena.encode)
    )
      .catch((error: unknown) => {
        failure ??= { error };
      })
      .finally(() => {
        underWay.delete(sent);
        if (spares.length < SPARES) spares.push(arena);
      });
    underWay.add(sent);
  }

  function hasRoom(bytes: number): boolean {
    check();
    return !batch || ARENA - batch.used >= bytes;
  }

  /** Another writer may take what there is before the caller goes on, who has to look again. */
  async function makeRoom(): Promise<void> {
    if (underWay.size < BATCHES) send();
    else await Promise.race(underWay);
  }

  function addBlock(codec: Codec, bytes: Uint8Array): Link {
    const digest = digestOf(bytes);
    current().blocks.push({ codec, digest, bytes });
    return makeLink(codec, digest);
  }

  /** Cuts what is held into chunks; unless `last`, returns what lies after the last certain cut. */
  function cut(held: readonly Uint8Array[], last: boolean, chunks: FilePart[]): Buffer {
    const into = current();
    const { bytes: memory, chunkEnd } = into.arena;
    let at = into.used;
    let end = at;
    for (const piece of held) {
      memory.set(piece, end);
      end += piece.length;
    }
    while (at < end && (last || end - at >= MAX_CHUNK)) {
      const next = chunkEnd(at, end);
      chunks.push({ link: addBlock(RAW, memory.subarray(at, next)), size: next - at });
      at = next;
    }
    into.used = at;
    return Buffer.from(memory.subarray(at, end));
  }

  function finishFile(chunks: readonly FilePart[]): Link {
    if (chunks.length === 0) return addBlock(RAW, new Uint8Array(0));
    if (chunks.length === 1) return chunks[0].link;
    let top = chunks[0].link;
    for (const { link, bytes } of encodeFile(chunks)) {
      current().blocks.push({ codec: DAG_CBOR, digest: linkDigest(link), bytes });
      top = link;
    }
    return top;
  }

  async function write(content: AsyncIterable<Uint8Array> | Uint8Array): Promise<FilePart> {
    const chunks: FilePart[] = [];
    let size = 0;
    let held: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of content instanceof Uint8Array ? [content] : content) {
      check();
      for (let from = 0; from < piece.length; from += TURN) {
        const part = piece.subarray(from, from + TURN);
        held.push(part);
        if (held.length === MANY_PIECES) held = [Buffer.concat(held)];
        bytes += part.length;
        size += part.length;
        if (bytes < TURN) continue;
        while (!hasRoom(bytes)) await makeRoom();
        held = [cut(held, false, chunks)];
        bytes = held[0].length;
      }
    }
    while (!hasRoom(bytes)) await makeRoom();
    cut(held, true, chunks);
    return { link: finishFile(chunks), size };
  }

  return {
    write,
    async drain() {
      check();
      send();
      while (underWay.size > 0) await Promise.race(underWay);
      check();
    },
    close() {
      // What it still works at fails, and nobody waits for that.
      helper?.close().catch(() => undefined);
      helper = undefined;
    },
  };
}
