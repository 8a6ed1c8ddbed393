import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * A TCP proxy that makes a far network of a near one: every byte arrives a fixed time after it was sent, however many
 * are under way. Nothing of vitest in here: benchmarks use it, too.
 */
export interface DelayProxy {
  port: number;
  /** Bytes passed on so far: towards the target, and back. */
  counts(): { there: number; back: number };
  /** Connections that are open, and all that were ever made. */
  connections(): { open: number; ever: number };
  /** Changes a bit of the next bytes that pass in a direction, of each connection. */
  corrupt(direction: 'there' | 'back'): void;
  /** From here on nothing passes: connections are accepted, what comes is read, and nobody hears of it. */
  stall(): void;
  /** Ends a stall for connections made from now on; what it has swallowed is lost, so that those before are cut. */
  flow(): void;
  /** Resets every connection. */
  cut(): void;
  close(): Promise<void>;
}

export interface DelayProxyOptions {
  target: { host: string; port: number };
  /** One way, in ms. */
  delay?: number;
  /** Where it listens. */
  host?: string;
  port?: number;
}

/** What may be under way in one direction: a gigabit over a second and more. Beyond that, the sender waits. */
const MOST_UNDER_WAY = 256 << 20;

export async function startDelayProxy(options: DelayProxyOptions): Promise<DelayProxy> {
  const { target, delay = 0, host = '127.0.0.1', port = 0 } = options;
  const counts = { there: 0, back: 0 };
  const pairs = new Set<{ sockets: Socket[]; spoil: Set<Socket> }>();
  let ever = 0;
  let stalled = false;

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    ever++;
    const far = connect({ ...target, allowHalfOpen: true, noDelay: true });
    const pair = { sockets: [client, far], spoil: new Set<Socket>() };
    pairs.add(pair);
    for (const socket of pair.sockets) {
      // Why one side has gone is no affair of the other: it sees a reset, as it would without a proxy.
      socket.on('error', () => undefined);
      socket.on('close', (failed) => {
        if (failed) for (const one of pair.sockets) one.resetAndDestroy();
        if (pair.sockets.every(({ destroyed }) => destroyed)) pairs.delete(pair);
      });
    }
    const passed = (direction: 'there' | 'back', from: Socket) => (bytes: Buffer) => {
      counts[direction] += bytes.length;
      if (pair.spoil.delete(from)) bytes[bytes.length >> 1] ^= 1;
    };
    pass(client, far, { delay, isStalled: () => stalled, onPassed: passed('there', client) });
    pass(far, client, { delay, isStalled: () => stalled, onPassed: passed('back', far) });
  });
  server.listen(port, host);
  await once(server, 'listening');

  const cut = () => {
    for (const { sockets } of pairs) for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as { port: number }).port,
    counts: () => ({ ...counts }),
    connections: () => ({ open: pairs.size, ever }),
    corrupt(direction) {
      for (const { sockets, spoil } of pairs) spoil.add(sockets[direction === 'there' ? 0 : 1]);
    },
    stall() {
      stalled = true;
    },
    flow() {
      if (stalled) cut();
      stalled = false;
    },
    cut,
    async close() {
      server.close();
      cut();
      while (pairs.size > 0) await sleep(1);
    },
  };
}

interface Passing {
  delay: number;
  isStalled(): boolean;
  onPassed(bytes: Buffer): void;
}

/** Passes bytes on when their time has come; the end of the stream as well. */
function pass(from: Socket, to: Socket, { delay, isStalled, onPassed }: Passing): void {
  const queue: { due: number; bytes: Buffer | undefined }[] = [];
  let underWay = 0;
  let timer: NodeJS.Timeout | undefined;
  let isFull = false;

  const add = (bytes: Buffer | undefined) => {
    if (isStalled()) return;
    queue.push({ due: performance.now() + delay, bytes });
    underWay += bytes?.length ?? 0;
    if (underWay > MOST_UNDER_WAY) from.pause();
    if (delay === 0) deliver();
    else wait();
  };
  from.on('data', add);
  from.on('end', () => add(undefined));
  from.on('close', () => {
    // After a reset nothing arrives, and nobody has to wait for it.
    if (from.errored) clearTimeout(timer);
  });
  to.on('drain', () => {
    isFull = false;
    deliver();
  });

  function deliver(): void {
    const now = performance.now();
    while (queue.length > 0 && !isFull && queue[0].due <= now && !to.destroyed) {
      const { bytes } = queue.shift() as (typeof queue)[number];
      if (isStalled()) continue;
      if (!bytes) {
        to.end();
        continue;
      }
      underWay -= bytes.length;
      onPassed(bytes);
      isFull = !to.write(bytes);
    }
    if (underWay <= MOST_UNDER_WAY) from.resume();
    wait();
  }

  function wait(): void {
    if (timer || isFull || queue.length === 0 || to.destroyed) return;
    timer = setTimeout(
      () => {
        timer = undefined;
        deliver();
      },
      Math.max(0, queue[0].due - performance.now()),
    );
  }
}
