import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { FromThread, ToThread } from './messages.js';

/** Runs jobs on threads; as many at once as `slots`, the rest in turn. */
export interface ThreadPool<Job, Result> {
  /**
   * @param transfer buffers that move with the job
   * @param signal reaches the job in its thread, which is waited for all the same
   */
  run(job: Job, transfer?: readonly ArrayBuffer[], signal?: AbortSignal): Promise<Result>;
  /** Jobs that can be under way before another one only waits. */
  readonly slots: number;
  close(): Promise<void>;
}

export interface ThreadPoolOptions<Question, Answer> {
  /** A module that calls `serveJobs`. */
  script: URL;
  /** What the module gets as workerData. */
  data: unknown;
  /** Default: one for each processor, at most 16. */
  threads?: number | undefined;
  /** Jobs that a thread works on at the same time. Default 2: one at work, one waiting. */
  jobsPerThread?: number;
  /** A pool without jobs does not keep the process from ending. */
  mayEnd?: boolean;
  /** Answers what a job asks. */
  serve?: (question: Question) => Promise<Answer>;
  /** Buffers that move with an answer. */
  transfer?: (answer: Answer) => ArrayBuffer[];
}

export function createThreadPool<Job, Result, Question = never, Answer = never>(
  options: ThreadPoolOptions<Question, Answer>,
): ThreadPool<Job, Result> {
  const { threads = Math.min(availableParallelism(), 16), jobsPerThread = 2 } = options;
  const members = Array.from({ length: threads }, () => startThread<Job, Result, Question, Answer>(options));
  return {
    slots: threads * jobsPerThread,
    run(job, transfer, signal) {
      const member = members.reduce((least, other) => (other.active() < least.active() ? other : least));
      return member.run(job, transfer, signal);
    },
    async close() {
      await Promise.all(members.map((member) => member.stop()));
    },
  };
}

function startThread<Job, Result, Question, Answer>(options: ThreadPoolOptions<Question, Answer>) {
  const { script, data, mayEnd, serve, transfer } = options;
  // Options of this process, such as --input-type, may make no sense to a thread that is a file.
  const worker = new Worker(script, { workerData: data, stdin: false, execArgv: [] });
  const jobs = new Map<number, PromiseWithResolvers<Result>>();
  if (mayEnd) worker.unref();
  let nextId = 0;
  let dead: { error: unknown } | undefined;

  /** A thread that could not be loaded, or has ended, takes no more jobs. */
  function die(error: unknown): void {
    dead ??= { error };
    fail(dead.error);
  }

  function fail(error: unknown): void {
    for (const job of jobs.values()) job.reject(error);
    jobs.clear();
  }

  async function answer(id: number, question: Question): Promise<void> {
    try {
      if (!serve) throw new Error('a thread asked, and nobody answers');
      const found = await serve(question);
      worker.postMessage(
        { type: 'answer', id, answer: found } satisfies ToThread<Job, Answer>,
        transfer?.(found),
      );
    } catch (error) {
      fail(error);
    }
  }

  worker.on('message', (message: FromThread<Result, Question>) => {
    if (message.type === 'question') {
      void answer(message.id, message.question);
      return;
    }
    const job = jobs.get(message.id);
    jobs.delete(message.id);
    if (mayEnd && jobs.size === 0) worker.unref();
    if (message.type === 'result') job?.resolve(message.result);
    else job?.reject(message.error);
  });
  worker.on('error', die);
  worker.on('exit', (code) => die(new Error(`a thread ended with code ${code}`)));

  return {
    active: () => jobs.size,
    run(job: Job, transfer: readonly ArrayBuffer[] = [], signal?: AbortSignal) {
      if (dead) return Promise.reject(dead.error);
      if (signal?.aborted) return Promise.reject(signal.reason);
      const id = nextId++;
      const result = Promise.withResolvers<Result>();
      jobs.set(id, result);
      if (mayEnd) worker.ref();
      worker.postMessage({ type: 'job', id, job } satisfies ToThread<Job, Answer>, [...transfer]);
      if (!signal) return result.promise;
      const abort = () => worker.postMessage({ type: 'abort', id } satisfies ToThread<Job, Answer>);
      signal.addEventListener('abort', abort, { once: true });
      return result.promise.finally(() => signal.removeEventListener('abort', abort));
    },
    stop: () => worker.terminate(),
  };
}
