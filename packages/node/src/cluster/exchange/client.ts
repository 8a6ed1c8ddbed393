import { LazytreeError } from '@lazytree/core';
import type { Connection } from '@libp2p/interface';
import { type MessageStream, messageStream } from '../message-stream.js';
import type { Traffic } from '../traffic.js';
import { Answer, Request } from './exchange.js';
import { ANSWER_BYTES, EXCHANGE, REFS, SILENT_MS, STREAMS } from './limits.js';

export interface AskOptions {
  signal: AbortSignal;
  /** Goes before what waits for a stream already. */
  urgent?: boolean;
}

/** The asking end of an exchange with one peer. */
export interface ExchangeClient {
  /** What the peer answers, message by message. Leaving the iteration cancels the request at the other end. */
  ask(request: Partial<Request>, options: AskOptions): AsyncGenerator<Answer>;
  close(): void;
}

export function createExchangeClient(connection: Connection, traffic: Traffic): ExchangeClient {
  const idle: MessageStream[] = [];
  const waiting: (() => void)[] = [];
  let open = 0;
  let closed = false;

  async function takeStream({ signal, urgent }: AskOptions): Promise<MessageStream> {
    for (;;) {
      signal.throwIfAborted();
      if (closed) throw new LazytreeError('NETWORK', 'the connection has ended');
      const ready = idle.pop();
      if (ready && !ready.ended.aborted) return ready;
      if (!ready && open < STREAMS) return openStream(signal);
      if (!ready) await turn(signal, urgent);
    }
  }

  function turn(signal: AbortSignal, urgent: boolean | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = () => {
      waiting.splice(waiting.indexOf(go), 1);
      reject(signal.reason);
    };
    const go = () => {
      signal.removeEventListener('abort', giveUp);
      resolve();
    };
    signal.addEventListener('abort', giveUp, { once: true });
    if (urgent) waiting.unshift(go);
    else waiting.push(go);
    return promise;
  }

  async function openStream(signal: AbortSignal): Promise<MessageStream> {
    open += 1;
    try {
      const stream = await connection.newStream(EXCHANGE, { signal, maxOutboundStreams: STREAMS + 1 });
      const messages = messageStream(stream, { limit: ANSWER_BYTES, traffic });
      messages.ended.addEventListener('abort', given, { once: true });
      return messages;
    } catch (error) {
      given();
      signal.throwIfAborted();
      throw new LazytreeError('NETWORK', `no stream could be opened: ${(error as Error).message}`);
    }
  }

  /** A stream has gone, or is free. */
  function given(): void {
    open -= 1;
    waiting.shift()?.();
  }

  function giveBack(stream: MessageStream): void {
    if (stream.ended.aborted) return;
    // It stays for the next request: opening one costs a round trip.
    idle.push(stream);
    waiting.shift()?.();
  }

  return {
    async *ask(request, options) {
      const stream = await takeStream(options);
      let done = false;
      try {
        await stream.send(Request.encode(request), options.signal);
        while (!done) {
          const answer = await receive(stream, options.signal);
          done = answer.end;
          if (answer.refusal)
            throw new LazytreeError('NETWORK', `the peer refused: ${answer.refusal.slice(0, 200)}`);
          yield answer;
        }
      } finally {
        if (done) giveBack(stream);
        else stream.abort('cancelled');
      }
    },
    close() {
      closed = true;
      for (const stream of idle.splice(0)) stream.abort('closed');
      for (const go of waiting.splice(0)) go();
    },
  };
}

async function receive(stream: MessageStream, signal: AbortSignal): Promise<Answer> {
  const silent = AbortSignal.timeout(SILENT_MS);
  let message: Buffer | undefined;
  try {
    message = await stream.receive(AbortSignal.any([signal, silent]));
  } catch (error) {
    signal.throwIfAborted();
    if (silent.aborted) throw new LazytreeError('NETWORK', `silent for ${SILENT_MS / 1000} s`);
    throw error;
  }
  if (!message) throw new LazytreeError('NETWORK', 'the peer ended the stream in the middle of an answer');
  try {
    return Answer.decode(message, { limits: { refs: REFS } });
  } catch (cause) {
    throw new LazytreeError('NETWORK', 'the peer sent something else than an answer', { cause });
  }
}
