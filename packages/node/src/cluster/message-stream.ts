import { LazytreeError } from '@lazytree/core';
import type { Stream } from '@libp2p/interface';
import { Uint8ArrayList } from 'uint8arraylist';
import type { Traffic } from './traffic.js';

/** Bytes that may wait for `receive` before the other end is held back. */
const AHEAD_BYTES = 1 << 20;
/** Of a length: enough for 2^28, which is beyond every limit. */
const LENGTH_BYTES = 4;

/** Messages over a libp2p stream, each preceded by its length as an unsigned varint (multiformats/unsigned-varint). */
export interface MessageStream {
  /**
   * Sends a message, or what its parts are together. Resolves when there is room for more.
   * @throws LazytreeError NETWORK when the stream has ended
   */
  send(message: Uint8Array | readonly Uint8Array[], signal?: AbortSignal): Promise<void>;
  /**
   * The next message, or undefined at the stream's end.
   *
   * @throws LazytreeError NETWORK when the stream was reset, or what comes is not a message or too long
   */
  receive(signal?: AbortSignal): Promise<Buffer | undefined>;
  /** Aborted when the stream has ended, in order or not. */
  readonly ended: AbortSignal;
  close(): Promise<void>;
  /** Ends it at once: the other end learns of a reset. */
  abort(reason: string): void;
}

export interface MessageStreamOptions {
  /** Bytes of the longest message that is taken. */
  limit: number;
  /** Where bytes are counted. */
  traffic?: Traffic;
}

export function messageStream(stream: Stream, { limit, traffic }: MessageStreamOptions): MessageStream {
  const end = new AbortController();
  const waiting: Buffer[] = [];
  let waitingBytes = 0;
  let failure: LazytreeError | undefined;
  let finished = false;
  let wake: (() => void) | undefined;
  const partial = createAssembler(limit);
  // Streams wait between requests for as long as the connection lasts.
  stream.inactivityTimeout = Number.POSITIVE_INFINITY;

  stream.addEventListener('message', ({ data }) => {
    try {
      if (traffic) traffic.received += data.byteLength;
      for (const part of data instanceof Uint8Array ? [data] : data) {
        for (const message of partial.add(part)) {
          waiting.push(message);
          waitingBytes += message.length;
        }
      }
    } catch (error) {
      fail((error as Error).message);
      stream.abort(error as Error);
    }
    if (waitingBytes > AHEAD_BYTES && stream.status === 'open') stream.pause();
    wake?.();
  });
  stream.addEventListener('remoteCloseWrite', () => {
    finished = true;
    wake?.();
  });
  stream.addEventListener('close', ({ error }) => {
    finished = true;
    if (error) fail(error.message);
    end.abort(failure);
    wake?.();
  });

  function fail(reason: string): void {
    failure ??= new LazytreeError('NETWORK', `the stream ended: ${reason}`);
  }

  async function changed(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = () => reject(signal?.reason);
    signal?.addEventListener('abort', giveUp, { once: true });
    wake = resolve;
    try {
      await promise;
    } finally {
      wake = undefined;
      signal?.removeEventListener('abort', giveUp);
    }
  }

  return {
    async send(message, signal) {
      if (stream.writeStatus !== 'writable')
        throw failure ?? new LazytreeError('NETWORK', 'the stream has ended');
      try {
        // One by one they would be frames of the muxer.
        const parts = message instanceof Uint8Array ? [message] : message;
        const bytes = new Uint8ArrayList(lengthOf(parts), ...parts);
        if (traffic) traffic.sent += bytes.length;
        if (!stream.send(bytes)) await stream.onDrain(signal ? { signal } : {});
      } catch (error) {
        signal?.throwIfAborted();
        throw failure ?? new LazytreeError('NETWORK', `the stream ended: ${(error as Error).message}`);
      }
    },
    async receive(signal) {
      for (;;) {
        const message = waiting.shift();
        if (message) {
          waitingBytes -= message.length;
          if (stream.readStatus === 'paused' && waitingBytes <= AHEAD_BYTES / 2) stream.resume();
          return message;
        }
        if (failure) throw failure;
        if (finished) return undefined;
        await changed(signal);
      }
    },
    ended: end.signal,
    close: () => stream.close().catch(() => stream.abort(new Error('closed'))),
    abort: (reason) => stream.abort(new Error(reason)),
  };
}

function lengthOf(parts: readonly Uint8Array[]): Uint8Array {
  const prefix: number[] = [];
  let rest = parts.reduce((sum, part) => sum + part.length, 0);
  for (; rest > 127; rest = Math.floor(rest / 128)) prefix.push((rest & 127) | 128);
  prefix.push(rest);
  return Uint8Array.from(prefix);
}

export interface Assembler {
  /** The messages that are whole with this part. @throws Error for a length that is none, or beyond the limit */
  add(part: Uint8Array): Buffer[];
}

/** Puts messages together from parts of any size. Nothing is allocated beyond the limit. */
export function createAssembler(limit: number): Assembler {
  const prefix: number[] = [];
  let message: Buffer | undefined;
  let filled = 0;

  /** The length, when the byte is its last. */
  function lengthWith(byte: number): number | undefined {
    prefix.push(byte);
    if (byte > 127) {
      if (prefix.length === LENGTH_BYTES) throw new Error('a length that is none');
      return undefined;
    }
    if (byte === 0 && prefix.length > 1) throw new Error('a length that is not minimal');
    let length = 0;
    for (let i = prefix.length - 1; i >= 0; i--) length = length * 128 + (prefix[i] & 127);
    if (length > limit) throw new Error(`a message of ${length} bytes; the limit is ${limit}`);
    prefix.length = 0;
    return length;
  }

  return {
    add(part) {
      const whole: Buffer[] = [];
      for (let at = 0; at < part.length; ) {
        if (!message) {
          const length = lengthWith(part[at++]);
          if (length === undefined) continue;
          message = Buffer.allocUnsafeSlow(length);
          filled = 0;
        }
        const end = Math.min(part.length, at + message.length - filled);
        message.set(part.subarray(at, end), filled);
        filled += end - at;
        at = end;
        if (filled < message.length) continue;
        whole.push(message);
        message = undefined;
      }
      if (message && message.length === 0) {
        whole.push(message);
        message = undefined;
      }
      return whole;
    },
  };
}
