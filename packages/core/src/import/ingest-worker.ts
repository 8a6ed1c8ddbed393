import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { createIngester, type IngestedFiles } from './ingest.js';

/** Messages from the pool to a worker. */
export type ToWorker =
  | { type: 'ingest'; id: number; paths: string[] }
  | { type: 'answer'; id: number; value: Uint8Array | undefined };

/** Messages from a worker to the pool; `query` and `emit` wait for the `answer` of that id. */
export type FromWorker =
  | { type: 'query'; id: number; digests: string }
  | { type: 'emit'; id: number; records: Uint8Array }
  | { type: 'done'; id: number; result: IngestedFiles }
  | { type: 'failed'; id: number; error: unknown };

const port = parentPort as MessagePort;
const waiting = new Map<number, (value: Uint8Array | undefined) => void>();
let nextQuestion = 0;

function ask(message: { type: 'query'; digests: string } | { type: 'emit'; records: Uint8Array<ArrayBuffer> }) {
  const id = nextQuestion++;
  const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
  waiting.set(id, resolve);
  if (message.type === 'emit') port.postMessage({ ...message, id }, [message.records.buffer]);
  else port.postMessage({ ...message, id });
  return promise;
}

const ingest = createIngester(
  {
    query: async (digests) => (await ask({ type: 'query', digests })) as Uint8Array,
    async emit(records) {
      await ask({ type: 'emit', records: records as Uint8Array<ArrayBuffer> });
    },
  },
  workerData,
);

port.on('message', (message: ToWorker) => {
  if (message.type === 'answer') {
    waiting.get(message.id)?.(message.value);
    waiting.delete(message.id);
    return;
  }
  const { id } = message;
  ingest(message.paths).then(
    (result) => port.postMessage({ type: 'done', id, result } satisfies FromWorker, [result.numbers.buffer as ArrayBuffer]),
    (error: unknown) => port.postMessage({ type: 'failed', id, error } satisfies FromWorker),
  );
});
