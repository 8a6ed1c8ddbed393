import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { encodeFrames, Frame, type FrameKind, type ProgressEvent, type ProgressState } from './frames.js';
import type { CommandOutput } from './protocol.js';

/** Least time between two states of a bar. */
const PROGRESS_MS = 100;

/** A command's output as frames of an answer, with no more in memory than the reader takes. */
export interface CommandStream extends CommandOutput {
  cancel(): void;
  isEndless(): boolean;
  end(exitCode: number): Promise<void>;
}

export function createCommandStream(response: ServerResponse): CommandStream {
  const cancelled = new AbortController();
  const bars = createBars(({ bar, ...rest }) => send(Frame.progress, json({ bar, ...rest })));
  let gone = false;
  let endless = false;
  response.on('error', () => undefined);
  response.once('close', () => {
    gone = true;
    cancelled.abort();
  });

  function send(kind: FrameKind, payload: Uint8Array): void {
    if (gone) return;
    const { socket } = response;
    socket?.cork();
    for (const bytes of encodeFrames(kind, payload)) response.write(bytes);
    socket?.uncork();
  }

  async function drained(): Promise<void> {
    if (gone || !response.writableNeedDrain) return;
    const listening = new AbortController();
    const { signal } = listening;
    await Promise.race([once(response, 'drain', { signal }), once(response, 'close', { signal })]);
    listening.abort();
  }

  return {
    signal: cancelled.signal,
    async stdout(part) {
      send(Frame.stdout, part);
      await drained();
      return !gone;
    },
    stderr: (text) => send(Frame.stderr, Buffer.from(text)),
    progress(event) {
      // A state that cannot go now is followed by another.
      if ('state' in event && response.writableNeedDrain) bars.keep(event);
      else bars.show(event);
    },
    endless() {
      endless = true;
    },
    isEndless: () => endless,
    outcome: (exitCode) => send(Frame.outcome, json({ exitCode })),
    cancel: () => cancelled.abort(),
    async end(exitCode) {
      send(Frame.end, json({ exitCode }));
      if (gone) return;
      response.end();
      await Promise.race([once(response, 'finish'), once(response, 'close')]).catch(() => undefined);
    },
  };
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** Lets each bar's states through now and then, and its last one always. */
function createBars(send: (event: ProgressEvent) => void) {
  const bars = new Map<number, { shown: number; latest?: ProgressState }>();
  const keep = ({ bar, state }: { bar: number; state: ProgressState }) => {
    const known = bars.get(bar);
    if (known) known.latest = state;
    return known;
  };
  return {
    keep,
    show(event: ProgressEvent): void {
      if ('label' in event) {
        bars.set(event.bar, { shown: 0 });
        send(event);
      } else if ('stop' in event) {
        const latest = bars.get(event.bar)?.latest;
        if (latest) send({ bar: event.bar, state: latest });
        bars.delete(event.bar);
        send(event);
      } else {
        const known = keep(event);
        const now = performance.now();
        if (!known || now - known.shown < PROGRESS_MS) return;
        known.shown = now;
        delete known.latest;
        send(event);
      }
    },
  };
}
