import { LazytreeError } from '@lazytree/core';
import type { Stream } from '@libp2p/interface';
import { messageStream } from '../message-stream.js';
import type { Connection } from '../network.js';
import type { ClusterKey } from './cluster-key.js';
import { LIMIT, proveAsDialer, proveAsListener } from './proof.js';

export const MEMBERSHIP = '/lazytree/membership/1';
/** A connection whose peer has not proved by then that it is a member is closed. */
const PROOF_MS = 10_000;

export interface MembersOptions {
  key: ClusterKey;
  /** This peer's id. */
  self: string;
  onMember(connection: Connection): void;
  onRefused(connection: Connection, error: Error): void;
}

/** Knows of each connection whether its peer is a member. */
export interface Members {
  /** A new connection: proves, or waits for the other end to do so. */
  add(connection: Connection): void;
  /** The other end begins to prove. */
  handle(stream: Stream, connection: Connection): Promise<void>;
  /** Resolves when the peer has proved that it is a member. @throws LazytreeError REFUSED */
  admitted(connection: Connection): Promise<void>;
}

interface State {
  proved: Promise<void>;
  resolve(): void;
  reject(error: Error): void;
}

export function createMembers({ key, self, onMember, onRefused }: MembersOptions): Members {
  const states = new WeakMap<Connection, State>();

  function stateOf(connection: Connection): State {
    const known = states.get(connection);
    if (known) return known;
    const { promise: proved, resolve, reject } = Promise.withResolvers<void>();
    const late = setTimeout(() => reject(new LazytreeError('REFUSED', 'no proof in time')), PROOF_MS);
    late.unref();
    proved.then(
      () => onMember(connection),
      (error: Error) => {
        onRefused(connection, error);
        connection.abort(new Error('refused'));
      },
    );
    void proved.catch(() => undefined).finally(() => clearTimeout(late));
    const state = { proved, resolve, reject };
    states.set(connection, state);
    return state;
  }

  const common = (connection: Connection) => ({
    key,
    purpose: 'membership' as const,
    self,
    other: connection.remotePeer.toString(),
    signal: AbortSignal.timeout(PROOF_MS),
  });

  return {
    add(connection) {
      const { resolve, reject } = stateOf(connection);
      if (connection.direction === 'inbound') return;
      void (async () => {
        const { signal, ...rest } = common(connection);
        const stream = messageStream(await connection.newStream(MEMBERSHIP, { signal }), { limit: LIMIT });
        try {
          await proveAsDialer({ ...rest, signal, stream });
          await stream.close();
        } catch (error) {
          stream.abort('refused');
          throw error;
        }
      })().then(resolve, reject);
    },
    async handle(stream, connection) {
      const { resolve, reject } = stateOf(connection);
      const messages = messageStream(stream, { limit: LIMIT });
      try {
        await proveAsListener({ ...common(connection), stream: messages });
        resolve();
        await messages.close();
      } catch (error) {
        messages.abort('refused');
        reject(error as Error);
      }
    },
    admitted: (connection) => stateOf(connection).proved,
  };
}
