import { type MessagePort, parentPort, type Transferable } from 'node:worker_threads';
import type { FromThread, ToThread } from './messages.js';

/** Puts a question to the pool; `transfer` names buffers that move with it. */
export type Ask<Question, Answer> = (question: Question, transfer?: Transferable[]) => Promise<Answer>;

/**
 * Makes this thread work on a pool's jobs, several at a time when one waits for an answer.
 * @param transfer buffers that move with a result
 */
export function serveJobs<Job, Result, Question = never, Answer = never>(
  handle: (job: Job, ask: Ask<Question, Answer>, signal: AbortSignal) => Promise<Result>,
  transfer?: (result: Result) => Transferable[],
): void {
  const port = parentPort as MessagePort;
  const waiting = new Map<number, (answer: Answer) => void>();
  const jobs = new Map<number, AbortController>();
  let nextId = 0;

  const send = (message: FromThread<Result, Question>, moved?: Transferable[]) =>
    port.postMessage(message, moved);

  const ask: Ask<Question, Answer> = (question, moved) => {
    const id = nextId++;
    const { promise, resolve } = Promise.withResolvers<Answer>();
    waiting.set(id, resolve);
    send({ type: 'question', id, question }, moved);
    return promise;
  };

  port.on('message', (message: ToThread<Job, Answer>) => {
    const { id } = message;
    if (message.type === 'answer') {
      waiting.get(id)?.(message.answer);
      waiting.delete(id);
      return;
    }
    if (message.type === 'abort') {
      jobs.get(id)?.abort();
      return;
    }
    const stop = new AbortController();
    jobs.set(id, stop);
    handle(message.job, ask, stop.signal)
      .finally(() => jobs.delete(id))
      .then(
        (result) => send({ type: 'result', id, result }, transfer?.(result)),
        (error: unknown) => send({ type: 'failed', id, error }),
      );
  });
}
