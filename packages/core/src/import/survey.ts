import { availableParallelism } from 'node:os';
import { setImmediate as yieldToEvents } from 'node:timers/promises';
import { realPath } from './real-path.js';
import { openStatCache, type StatCacheReader } from './stat-cache.js';
import type { RecordPlace } from './stat-record.js';
import { helpSurvey } from './survey-helper.js';
import { createSurveyWalk, isUnchanged, markIndex, type SurveyData } from './survey-walk.js';

/**
 * A look at a directory, to find out where it is not as its stat cache says. Nothing but the cache is needed for it,
 * so it can begin before a store is open, or a program loaded. Most of it is waiting for the kernel's answers to
 * lstat: in a large tree a second thread looks at the files from the other end.
 */
export interface Survey {
  /** The real path of the directory. */
  readonly root: string;
  readonly cache: StatCacheReader;
  /** Looks at what is left to be looked at. */
  finish(options?: SurveyOptions): Promise<void>;
  /** Files that this thread has looked at so far. */
  seen(): number;
  /** Whether all in and below a directory was seen to be as its record says. */
  isUnchanged(record: RecordPlace): boolean;
  /** Gives up what is left, and closes the cache. May be called again. */
  stop(): void;
}

interface SurveyOptions {
  signal?: AbortSignal | undefined;
  onProgress?: (() => void) | undefined;
}

/**
 * Of fewer files a second thread would look at a third, and take as much processor time to start and to end as it
 * saves.
 */
const WORTH_A_THREAD = 50_000;
/** Of a survey that begins ahead: its thread may be there from the one before, or starts while something else is waited for. */
const WORTH_A_THREAD_AHEAD = 8_000;
/** Others, such as a store that is being opened, have their turn in between. */
const SLICE_MS = 2;

interface BeginOptions {
  /**
   * False where the records say more than lstat can tell, as those of a layer do: then there is the cache, and nothing
   * is known to be unchanged. Default true.
   */
  looks?: boolean;
  /** It goes on by itself, because whoever begins it waits for something else first. Default false. */
  ahead?: boolean;
}

/** Returns undefined where there is no cache to be used for this, or no such directory. */
export function beginSurvey(
  path: string,
  statCache: string,
  { looks = true, ahead = false }: BeginOptions = {},
): Survey | undefined {
  const cache = openStatCache(statCache);
  if (!cache) return undefined;
  try {
    const survey = createSurvey(realPath(path), cache, { looks, ahead });
    if (ahead) void survey.finish();
    return survey;
  } catch {
    // Whoever uses the directory will say so.
    cache.close();
    return undefined;
  }
}

function createSurvey(
  root: string,
  cache: StatCacheReader,
  { looks, ahead }: Required<BeginOptions>,
): Survey {
  const worthAThread = ahead ? WORTH_A_THREAD_AHEAD : WORTH_A_THREAD;
  const walk = looks && cache.shared ? startWalk(root, cache, cache.shared, worthAThread) : undefined;
  let open = true;

  return {
    root,
    cache,
    async finish({ signal, onProgress } = {}) {
      for (let sliceEnd = performance.now() + SLICE_MS; walk?.step(); ) {
        if (performance.now() < sliceEnd) continue;
        onProgress?.();
        await yieldToEvents();
        signal?.throwIfAborted();
        sliceEnd = performance.now() + SLICE_MS;
      }
    },
    seen: () => walk?.seen() ?? 0,
    isUnchanged: (record) => walk?.isUnchanged(record) ?? false,
    stop() {
      if (!open) return;
      open = false;
      walk?.stop();
      cache.close();
    },
  };
}

function startWalk(root: string, cache: StatCacheReader, bytes: SharedArrayBuffer, worthAThread: number) {
  const marks = new Uint8Array(new SharedArrayBuffer((cache.length >>> 5) + 2));
  const { rootRecord, trusted } = cache;
  const data: SurveyData = { root, cache: bytes, rootRecord, trusted, marks: marks.buffer };
  if (cache.files >= worthAThread && availableParallelism() > 1) helpSurvey(data);
  return {
    ...createSurveyWalk(data, { helper: false }),
    isUnchanged: (record: RecordPlace) => isUnchanged(Atomics.load(marks, markIndex(record))),
    stop: () => Atomics.store(marks, marks.length - 1, 1),
  };
}
