import { CID } from 'multiformats/cid';
import { isMissing, LazytreeError } from '../errors.js';
import type { OriginEntry } from '../format/entry.js';
import type { EncodedNode } from '../format/file-node.js';
import { formatLink, type Link, parseLink } from '../format/link.js';
import { decodeSnapshot, encodeSnapshot, type Snapshot } from '../format/snapshot.js';
import type { Table } from './block-index.js';
import type { LocalStore } from './local.js';
import { createMutex, type Mutex } from './mutex.js';

/** A named pointer to a root. */
export interface Ref {
  name: string;
  root: Link;
  /** The newest snapshot record; `log` follows its parents. */
  snapshot: Link;
  /** Grows by one with every change of the ref. */
  sequence: number;
  /** Milliseconds since the epoch. */
  time: number;
}

export interface Pin {
  root: Link;
  time: number;
}

/** A root that was made here; unlike a pin it keeps nothing. */
export interface ImportedRoot {
  root: Link;
  source: string;
  /** When it was first made from this source, in milliseconds since the epoch. */
  time: number;
}

const REF_NAME = /^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,199}$/;

function isCid(text: string): boolean {
  try {
    CID.parse(text);
    return true;
  } catch {
    // What does not parse is no CID.
    return false;
  }
}

/** @throws LazytreeError USAGE */
export function checkRefName(name: string): void {
  if (isCid(name)) {
    throw new LazytreeError('USAGE', `'${name}' is a CID, and cannot be the name of a ref`, {
      hint: 'choose a name',
    });
  }
  if (!REF_NAME.test(name)) {
    throw new LazytreeError('USAGE', `'${name}' cannot be the name of a ref`, {
      hint: 'use up to 200 letters, digits and . _ @ + - with a letter, digit or _ first',
    });
  }
}

export interface SetRefOptions {
  name: string;
  root: Link;
  source: string;
  message?: string;
}

type Decode<T> = (name: string, text: string) => T;

/** @throws LazytreeError CORRUPT for an entry of the index that is not what was written */
function readable<T>(kind: string, decode: Decode<T>): Decode<T> {
  return (name, text) => {
    try {
      return decode(name, text);
    } catch (cause) {
      throw new LazytreeError('CORRUPT', `the ${kind} '${name}' cannot be read in the index`, {
        cause,
        hint: 'run `lazytree verify --repair` to do without it, then import or name the tree again',
      });
    }
  };
}

const decodeRef = readable<Ref>('ref', (name, text) => {
  const { root, snapshot, sequence, time } = JSON.parse(text);
  return { name, root: parseLink(root), snapshot: parseLink(snapshot), sequence, time };
});

const decodePin = readable<Pin>('pin', (name, text) => ({
  root: parseLink(name),
  time: JSON.parse(text).time,
}));

const decodeImport = readable<ImportedRoot>('import', (name, text) => ({
  root: parseLink(name),
  ...JSON.parse(text),
}));

const decodeOrigin = readable<unknown>('origin', (_, text) => JSON.parse(text));

const DECODERS: [table: Table, decode: Decode<unknown>][] = [
  ['ref', decodeRef],
  ['pin', decodePin],
  ['imported', decodeImport],
  ['reference', decodeOrigin],
  ['provenance', decodeOrigin],
];

/** Removes entries that cannot be read, and returns what is wrong with each. */
export async function dropUnreadable(store: LocalStore): Promise<string[]> {
  const problems: string[] = [];
  const texts: [Table, string, undefined][] = [];
  for (const [table, decode] of DECODERS) {
    for (const [name, text] of await store.index.listText(table)) {
      try {
        decode(name, text);
      } catch (error) {
        problems.push((error as Error).message);
        texts.push([table, name, undefined]);
      }
    }
  }
  if (texts.length > 0) await store.index.write({ texts, durable: true });
  return problems;
}

export function getRef(store: LocalStore, name: string): Ref | undefined {
  const text = store.index.getText('ref', name);
  return text === undefined ? undefined : decodeRef(name, text);
}

export async function listRefs(store: LocalStore): Promise<Ref[]> {
  return (await store.index.listText('ref')).map(([name, text]) => decodeRef(name, text));
}

/** Points `name` to `root` and records a snapshot that follows the ref's last one. Durable once it resolves. */
export async function setRef(
  store: LocalStore,
  { name, root, source, message = '' }: SetRefOptions,
): Promise<Ref> {
  checkRefName(name);
  store.keepRoot(root);
  return inTurn(store)(() => replaceRef(store, { name, root, source, message }));
}

const turns = new WeakMap<LocalStore, Mutex>();

/** Changes of refs follow one another, so that each sees the one before. */
function inTurn(store: LocalStore): Mutex {
  const turn = turns.get(store) ?? createMutex();
  turns.set(store, turn);
  return turn;
}

async function replaceRef(
  store: LocalStore,
  { name, root, source, message = '' }: SetRefOptions,
): Promise<Ref> {
  const before = getRef(store, name);
  const time = Date.now();
  const snapshot = encodeSnapshot({ root, time, source, message, parents: before ? [before.snapshot] : [] });
  await store.put(snapshot);
  const ref = { name, root, snapshot: snapshot.link, sequence: (before?.sequence ?? 0) + 1, time };
  await writeRef(store, ref);
  return ref;
}

const watchers = new WeakMap<LocalStore, Set<() => void>>();

/** Has `listener` called whenever a ref of the store has changed, or a root was made here. Returns what ends that. */
export function watchCatalog(store: LocalStore, listener: () => void): () => void {
  const listeners = watchers.get(store) ?? new Set();
  watchers.set(store, listeners);
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

function changed(store: LocalStore): void {
  for (const listener of watchers.get(store) ?? []) listener();
}

/** @throws LazytreeError NOT_FOUND */
export function removeRef(store: LocalStore, name: string): Promise<void> {
  return inTurn(store)(async () => {
    if (!getRef(store, name)) throw new LazytreeError('NOT_FOUND', `there is no ref '${name}'`);
    await store.index.write({ texts: [['ref', name, undefined]], durable: true });
    changed(store);
  });
}

/** A ref's snapshots, newest first, as far back as the store has them. */
export async function* history(
  store: LocalStore,
  ref: Ref,
): AsyncGenerator<{ link: Link; snapshot: Snapshot }> {
  let next: Link | undefined = ref.snapshot;
  while (next) {
    const bytes = await bytesOf(store, next);
    if (!bytes) return;
    const snapshot: Snapshot = decodeSnapshot(bytes);
    yield { link: next, snapshot };
    next = snapshot.parents[0];
  }
}

/**
 * Drops snapshots from a ref's history. The newest stays whatever is said of it; each one kept follows the one kept
 * before it.
 *
 * @param keep is given the snapshots, newest first, and says of each whether it is kept
 */
export async function thinHistory(
  store: LocalStore,
  name: string,
  keep: (snapshots: readonly Snapshot[]) => readonly boolean[],
): Promise<void> {
  await inTurn(store)(async () => {
    const ref = getRef(store, name);
    if (!ref) return;
    const snapshots: Snapshot[] = [];
    for await (const { snapshot } of history(store, ref)) snapshots.push(snapshot);
    const kept = keep(snapshots);
    if (snapshots.every((_, i) => i === 0 || kept[i])) return;
    // What is older than the oldest one here stays what it was.
    let parents = snapshots[snapshots.length - 1].parents;
    let newest: EncodedNode | undefined;
    for (let i = snapshots.length - 1; i >= 0; i--) {
      if (i > 0 && !kept[i]) continue;
      newest = encodeSnapshot({ ...snapshots[i], parents });
      await store.put(newest);
      parents = [newest.link];
    }
    if (newest) await writeRef(store, { ...ref, snapshot: newest.link, sequence: ref.sequence + 1 });
  });
}

/** The snapshot is durable before the ref that names it. */
async function writeRef(store: LocalStore, { name, root, snapshot, sequence, time }: Ref): Promise<void> {
  await store.flush();
  const text = JSON.stringify({ root: formatLink(root), snapshot: formatLink(snapshot), sequence, time });
  await store.index.write({ texts: [['ref', name, text]], durable: true });
  changed(store);
}

async function bytesOf(store: LocalStore, link: Link): Promise<Uint8Array | undefined> {
  try {
    return await store.get(link);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

export async function addPin(store: LocalStore, root: Link): Promise<void> {
  const text = JSON.stringify({ time: Date.now() });
  store.keepRoot(root);
  await store.flush();
  await store.index.write({ texts: [['pin', formatLink(root), text]], durable: true });
}

/** @throws LazytreeError NOT_FOUND */
export async function removePin(store: LocalStore, root: Link): Promise<void> {
  const name = formatLink(root);
  if (store.index.getText('pin', name) === undefined) {
    throw new LazytreeError('NOT_FOUND', `${name} is not pinned`);
  }
  await store.index.write({ texts: [['pin', name, undefined]], durable: true });
}

export async function listPins(store: LocalStore): Promise<Pin[]> {
  const pins = await store.index.listText('pin');
  return pins.map(([name, text]) => decodePin(name, text));
}

/**
 * Says where a root came from, unless that is known already: an import that changes nothing writes nothing, and the
 * index need not be brought up to date when it is opened next time.
 */
export async function recordImport(store: LocalStore, root: Link, source: string): Promise<void> {
  const name = formatLink(root);
  const known = store.index.getText('imported', name);
  if (known !== undefined && decodeImport(name, known).source === source) return;
  const text = JSON.stringify({ source, time: Date.now() });
  await store.index.write({ texts: [['imported', name, text]] });
  changed(store);
}

/**
 * Keeps what an origin reference stands for, given its integrity (an npm digest, a git commit id): it never stands for
 * anything else. Durable with the next flush.
 */
export async function recordResolution(
  store: LocalStore,
  { reference, integrity, root }: { reference: string; integrity: string; root: Link },
): Promise<void> {
  await store.index.write({ texts: [['resolved', resolutionName(reference, integrity), formatLink(root)]] });
}

export function findResolution(store: LocalStore, reference: string, integrity: string): Link | undefined {
  const text = store.index.getText('resolved', resolutionName(reference, integrity));
  return text === undefined ? undefined : parseLink(text);
}

function resolutionName(reference: string, integrity: string): string {
  return JSON.stringify([reference, integrity]);
}

/** What a reference that can move, such as a range or a branch, stood for when it was last asked about. */
export interface KnownReference {
  reference: string;
  integrity?: string;
  /** Milliseconds since the epoch. */
  time: number;
}

/** Durable with the next flush. */
export async function recordReference(
  store: LocalStore,
  reference: string,
  known: KnownReference,
): Promise<void> {
  await store.index.write({ texts: [['reference', reference, JSON.stringify(known)]] });
}

export function findReference(store: LocalStore, reference: string): KnownReference | undefined {
  const text = store.index.getText('reference', reference);
  return text === undefined ? undefined : (decodeOrigin(reference, text) as KnownReference);
}

/** How a root that an origin stands for has come here. */
export interface Provenance {
  /** With its driver: `npm:react@18.2.0`. */
  reference: string;
  integrity: string;
  /** `laid`: made here of what an origin stands for and what lies over it. */
  from: 'origin' | 'peer' | 'laid';
  /** The peer, as people call it. */
  peer?: string;
  /** Milliseconds since the epoch. */
  time: number;
  /** What was received for it, and in how many requests. */
  bytes: number;
  requests: number;
  notes: string[];
}

/** Ways in which one content has come that are remembered. */
const MOST_PROVENANCES = 8;

/** One content may come in several ways. Durable with the next flush. */
export async function recordProvenance(store: LocalStore, root: Link, how: Provenance): Promise<void> {
  await store.index.write({ texts: [provenanceText(store, root, how)] });
}

export interface Resolved {
  how: Provenance;
  integrities: Iterable<string>;
  /** References, each with its driver, that lead to what was resolved. */
  references?: { names: Iterable<string>; known: KnownReference };
}

/**
 * All at once: what an origin stands for by each of `integrities`, how it has come, and the references that lead to
 * it. Durable with the next flush.
 */
export async function recordResolved(
  store: LocalStore,
  root: Link,
  { how, integrities, references }: Resolved,
): Promise<void> {
  const texts: TextChange[] = [provenanceText(store, root, how)];
  for (const integrity of integrities)
    texts.push(['resolved', resolutionName(how.reference, integrity), formatLink(root)]);
  for (const name of references?.names ?? [])
    texts.push(['reference', name, JSON.stringify(references?.known)]);
  await store.index.write({ texts });
}

type TextChange = ['provenance' | 'resolved' | 'reference', string, string];

function provenanceText(store: LocalStore, root: Link, how: Provenance): TextChange {
  const others = listProvenances(store, root).filter(({ reference }) => reference !== how.reference);
  return ['provenance', formatLink(root), JSON.stringify([how, ...others].slice(0, MOST_PROVENANCES))];
}

/** The newest first. */
export function listProvenances(store: LocalStore, root: Link): Provenance[] {
  const text = store.index.getText('provenance', formatLink(root));
  return text === undefined ? [] : (decodeOrigin(formatLink(root), text) as Provenance[]);
}

/** How a root has come; with a reference, as what that stands for, if it has. */
export function findProvenance(store: LocalStore, root: Link, reference?: string): Provenance | undefined {
  const known = listProvenances(store, root);
  return known.find((how) => how.reference === reference) ?? known[0];
}

export function findImport(store: LocalStore, root: Link): ImportedRoot | undefined {
  const text = store.index.getText('imported', formatLink(root));
  return text === undefined ? undefined : decodeImport(formatLink(root), text);
}

/** By what an origin entry's resolution is known, and that of what is laid over it, if anything is. */
export function resolutionKeys({
  driver,
  reference,
  integrity,
  plus,
}: Pick<OriginEntry, 'driver' | 'reference' | 'integrity' | 'plus'>): {
  reference: string;
  integrity: string | undefined;
  laid: string | undefined;
} {
  const laid = plus && integrity !== undefined ? `${integrity} ${formatLink(plus)}` : undefined;
  return { reference: `${driver}:${reference}`, integrity, laid };
}

/** Roots that are here and that an origin entry is known to stand for: whoever keeps the entry keeps them. */
export function resolutionsOf(store: LocalStore, entry: OriginEntry): Link[] {
  const { reference, integrity, laid } = resolutionKeys(entry);
  return [integrity, laid].flatMap((key) => {
    const root = key === undefined ? undefined : findResolution(store, reference, key);
    return root === undefined || !store.locate(root) ? [] : [root];
  });
}

/** Drops what is said of roots that are not here any more. */
export async function forgetResolutions(store: LocalStore): Promise<void> {
  const gone = (text: string) => !store.locate(parseLink(text));
  const resolved = await store.index.listText('resolved');
  const known = await store.index.listText('provenance');
  await store.index.write({
    texts: [
      ...resolved.flatMap(([name, root]): [Table, string, undefined][] =>
        gone(root) ? [['resolved', name, undefined]] : [],
      ),
      ...known.flatMap(([root]): [Table, string, undefined][] =>
        gone(root) ? [['provenance', root, undefined]] : [],
      ),
    ],
  });
}

export async function listImports(store: LocalStore): Promise<ImportedRoot[]> {
  const roots = await store.index.listText('imported');
  return roots.map(([name, text]) => decodeImport(name, text));
}

export async function forgetImports(store: LocalStore, roots: readonly Link[]): Promise<void> {
  await store.index.write({ texts: roots.map((root) => ['imported', formatLink(root), undefined]) });
}
