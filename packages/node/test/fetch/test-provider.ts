import { setTimeout as sleep } from 'node:timers/promises';
import {
  decodeDirectoryNode,
  decodeFileNode,
  isFile,
  type Link,
  type LocalStore,
  linkCodec,
  RAW,
} from '@lazytree/core';
import type {
  BatchHint,
  GetOptions,
  Parcel,
  Provider,
  Tier,
  TreeOptions,
} from '../../dist/fetch/provider.js';

/** Bytes of a record's header: docs/store.md. */
const HEADER = 52;

export interface Behaviour {
  id?: string;
  tier?: Tier;
  batch?: BatchHint;
  generous?: boolean;
  /** Milliseconds to the first parcel. */
  delay?: number;
  /** Bytes a second. */
  rate?: number;
  holds?: 'all' | 'part' | 'unknown';
  /** Blocks that it does not have. */
  lacks?: (link: Link) => boolean;
  /** Never answers. */
  blackHole?: boolean;
  /** Does not listen to the signal either. */
  deaf?: boolean;
  /** Fails after so many parcels. */
  failsAfter?: number;
  /** Sends nothing more after so many parcels of a request. */
  hangsAfter?: number;
  /** What becomes of a parcel before it is sent. */
  distort?: (parcel: Parcel) => Parcel;
  /** Bytes of a parcel. */
  parcelBytes?: number;
  /** Links with which a tree's answer ends early. */
  stopsAfter?: number;
  /** What comes after the nodes of a tree of which content is wanted. */
  content?: readonly Link[];
}

export interface TestProvider extends Provider {
  behaviour: Behaviour;
  asked: { links: readonly Link[]; options: GetOptions }[];
  trees: { root: Link; have: readonly Link[]; content?: number }[];
  /** Requests that were cancelled. */
  cancelled: number;
  /** Bytes of records sent. */
  sent: number;
  distrusted: string[];
  /** Requests under way, and how many there were at the most. */
  active: number;
  mostActive: number;
}

let count = 0;

/** A provider in this process that serves from a store, as well or as badly as it is told to. */
export function testProvider(store: LocalStore, behaviour: Behaviour = {}): TestProvider {
  const id = behaviour.id ?? `p${count++}`;
  const { tier, batch, generous } = behaviour;
  /** When the wire is free again. */
  let busyUntil = 0;

  function recordOf(link: Link): Buffer | undefined {
    const location = store.locate(link);
    if (!location || provider.behaviour.lacks?.(link)) return undefined;
    return store.segments.read(location, HEADER + location.stored);
  }

  async function* answer(
    asked: Iterable<Link> | Promise<Iterable<Link>>,
    signal: AbortSignal,
  ): AsyncGenerator<Parcel> {
    const { behaviour: now } = provider;
    provider.active += 1;
    provider.mostActive = Math.max(provider.mostActive, provider.active);
    const onAbort = () => {
      provider.cancelled += 1;
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const listen = now.deaf ? undefined : signal;
    try {
      if (now.blackHole) await sleep(1e8, undefined, { signal: listen, ref: false });
      if (now.delay) await sleep(now.delay, undefined, { signal: listen });
      let parcels = 0;
      for (const parcel of parcelsOf(await asked)) {
        if (parcels === now.hangsAfter) await sleep(1e8, undefined, { signal: listen, ref: false });
        if (parcels++ === now.failsAfter) throw new Error('it is on fire');
        if (now.rate !== undefined) {
          busyUntil = Math.max(busyUntil, performance.now()) + (parcel.records.length * 1000) / now.rate;
          await sleep(Math.max(1, busyUntil - performance.now()), undefined, { signal: listen });
        }
        signal.throwIfAborted();
        provider.sent += parcel.records.length;
        yield now.distort?.(parcel) ?? parcel;
      }
      if (parcels === now.failsAfter) throw new Error('it is on fire');
    } finally {
      signal.removeEventListener('abort', onAbort);
      provider.active -= 1;
    }
  }

  function* parcelsOf(links: Iterable<Link>): Generator<Parcel> {
    const { parcelBytes = 256 << 10 } = provider.behaviour;
    let records: Buffer[] = [];
    let missing: Link[] = [];
    let bytes = 0;
    for (const link of links) {
      const record = recordOf(link);
      if (record) records.push(record);
      else missing.push(link);
      bytes += record?.length ?? 33;
      if (bytes < parcelBytes) continue;
      yield parcelOf(records, missing);
      records = [];
      missing = [];
      bytes = 0;
    }
    if (bytes > 0) yield parcelOf(records, missing);
  }

  function parcelOf(parts: readonly Buffer[], missing: Link[]): Parcel {
    const records = Buffer.concat(parts);
    return { records, missing, exclusive: records.length === records.buffer.byteLength };
  }

  async function nodesBelow(root: Link, have: readonly Link[]): Promise<Link[]> {
    const seen = new Set<Link>();
    for (const other of have) for (const link of await nodesBelow(other, [])) seen.add(link);
    const nodes: Link[] = [];
    const visit = async (link: Link, file: boolean): Promise<void> => {
      if (linkCodec(link) === RAW || seen.has(link)) return;
      seen.add(link);
      nodes.push(link);
      if (!store.locate(link) || provider.behaviour.lacks?.(link)) return;
      for (const child of children(await store.get(link), file)) await visit(child.link, child.file);
    };
    await visit(root, false);
    return nodes;
  }

  const provider: TestProvider = {
    id,
    ...(tier && { tier }),
    ...(batch && { batch }),
    ...(generous && { generous }),
    behaviour,
    asked: [],
    trees: [],
    cancelled: 0,
    sent: 0,
    distrusted: [],
    active: 0,
    mostActive: 0,
    describe: () => `${tier ?? 'peer'} ${id}`,
    get(links, options) {
      provider.asked.push({ links, options });
      return answer(links, options.signal);
    },
    tree(root: Link, { have, content, signal }: TreeOptions) {
      provider.trees.push({ root, have, ...(content && { content }) });
      const { stopsAfter, content: leaves = [] } = provider.behaviour;
      const nodes = nodesBelow(root, have).then((all) => [
        ...all.slice(0, stopsAfter),
        ...(content ? leaves : []),
      ]);
      return answer(nodes, signal);
    },
    holds: () => provider.behaviour.holds ?? 'unknown',
    distrust: (reason) => void provider.distrusted.push(reason),
  };
  return provider;
}

function children(bytes: Uint8Array, file: boolean): { link: Link; file: boolean }[] {
  if (file) {
    const { level, parts } = decodeFileNode(bytes);
    return level === 0 ? [] : parts.map(({ link }) => ({ link, file: true }));
  }
  const node = decodeDirectoryNode(bytes);
  if (node.kind === 'index') return node.shards.map(({ link }) => ({ link, file: false }));
  return node.entries.flatMap((entry): { link: Link; file: boolean }[] => {
    if (entry.kind === 'directory') return [{ link: entry.link, file: false }];
    return isFile(entry) ? [{ link: entry.link, file: true }] : [];
  });
}
