import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, fromSystemError, type Link } from '@lazytree/core';
import type { PrivateKey } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { writeDurably } from '../../state-file.js';
import type { SignedRef } from '../exchange/exchange.js';
import { type PublishedRef, signRef, verifyRef } from './signed-ref.js';

/** Statements that one peer may have in the table; more are not taken. */
const MOST_OF_ONE = 2000;
const MOST = 20_000;

/** The newest statement of every ref in the cluster that this machine has heard of, its own among them. */
export interface RefTable {
  /**
   * Brings what this machine publishes up to date with its refs. Durable once it resolves.
   *
   * @returns the statements that are new
   */
  publish(refs: readonly { name: string; root: Link }[], ownerName: string): Promise<SignedRef[]>;
  /**
   * Takes statements from a peer, whoever they are of: those that are signed by their owner and newer than what is known.
   *
   * @returns those taken
   */
  accept(statements: readonly SignedRef[]): Promise<PublishedRef[]>;
  /** Those of a name, or of an owner, or all. */
  signed(filter?: { name?: string; owner?: string }): SignedRef[];
  /** The same, without those that were removed. */
  list(): PublishedRef[];
  get(owner: string, name: string): PublishedRef | undefined;
}

interface Known {
  ref: PublishedRef;
  signed: SignedRef;
}

/** A file of signed statements needs no more trust than a peer: each is verified when it is read. */
export async function openRefTable(directory: string, identity: PrivateKey): Promise<RefTable> {
  const file = join(directory, 'refs.json');
  const self = peerIdFromPrivateKey(identity).toString();
  const table = new Map<string, Known>();
  let saving: Promise<void> = Promise.resolve();

  async function take(signed: SignedRef): Promise<PublishedRef | undefined> {
    const ref = await verifyRef(signed);
    if (!ref) return undefined;
    const known = table.get(keyOf(ref));
    if (known ? known.ref.sequence >= ref.sequence : isFull(ref.owner)) return undefined;
    table.set(keyOf(ref), { ref, signed });
    return ref;
  }

  function isFull(owner: string): boolean {
    if (owner === self) return false;
    let count = 0;
    for (const { ref } of table.values()) if (ref.owner === owner) count += 1;
    return count >= MOST_OF_ONE || table.size >= MOST;
  }

  function save(): Promise<void> {
    const saved = saving.then(() => {
      const lines = [...table.values()].map(({ signed: { statement, signature } }) => [
        Buffer.from(statement).toString('base64'),
        Buffer.from(signature).toString('base64'),
      ]);
      return writeDurably(file, `${JSON.stringify({ refs: lines })}\n`);
    });
    saving = saved.catch(() => undefined);
    return saved;
  }

  for (const signed of await readStatements(file)) await take(signed);

  return {
    async publish(refs, ownerName) {
      const now = new Map(refs.map(({ name, root }) => [name, root]));
      const changed: SignedRef[] = [];
      const state = async (name: string, root: Link | undefined) => {
        const before = table.get(keyOf({ owner: self, name }))?.ref;
        if (
          before
            ? before.root === root && (root === undefined || before.ownerName === ownerName)
            : root === undefined
        )
          return;
        const sequence = (before?.sequence ?? 0) + 1;
        const ref = { ownerName, name, root, sequence, time: Date.now() };
        const signed = await signRef(identity, ref);
        table.set(keyOf({ owner: self, name }), { ref: { ...ref, owner: self }, signed });
        changed.push(signed);
      };
      for (const [name, root] of now) await state(name, root);
      for (const { ref } of [...table.values()]) {
        if (ref.owner === self && !now.has(ref.name)) await state(ref.name, undefined);
      }
      // Nobody learns of a sequence number that could be given again after a crash.
      if (changed.length > 0) await save();
      return changed;
    },
    async accept(statements) {
      const taken: PublishedRef[] = [];
      for (const signed of statements) {
        const ref = await take(signed);
        // One of its own is taken, too: a number that this machine has forgotten must not be given again.
        if (ref) taken.push(ref);
      }
      if (taken.length > 0) await save();
      return taken;
    },
    signed({ name, owner } = {}) {
      return [...table.values()]
        .filter(({ ref }) => (!name || ref.name === name) && (!owner || ref.owner === owner))
        .map(({ signed }) => signed);
    },
    list: () => [...table.values()].map(({ ref }) => ref).filter(({ root }) => root !== undefined),
    get: (owner, name) => table.get(keyOf({ owner, name }))?.ref,
  };
}

function keyOf({ owner, name }: Pick<PublishedRef, 'owner' | 'name'>): string {
  return `${owner}/${name}`;
}

async function readStatements(file: string): Promise<SignedRef[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw fromSystemError(error, `reading ${file}`);
  }
  try {
    const { refs } = JSON.parse(text) as { refs: [string, string][] };
    return refs.map(([statement, signature]) => ({
      statement: Uint8Array.from(Buffer.from(statement, 'base64')),
      signature: Uint8Array.from(Buffer.from(signature, 'base64')),
    }));
  } catch {
    // Peers tell it again, and of our own names the numbers that the next ones have to follow.
    return [];
  }
}
