import { type Link, type Metadata, nameFromBytes, nameToBytes } from '@lazytree/core';

/**
 * What a process has to know of the node ids that it has told the kernel, in memory that may outlive it: one slot for
 * each id, and a journal of the places that the slots name. Whoever is killed between any two steps leaves a table that
 * is right about every id that the kernel knows: an id gets its slot before the kernel gets the id.
 */
export interface NodeTable {
  /** All ids are below this. */
  end(): number;
  /** Gives an id, which the kernel does not know, a meaning. One that had another is told apart by its generation. */
  assign(id: number, at: NodePosition): void;
  /** Gives an id that the kernel knows another place with the same file. */
  move(id: number, at: NodePosition): void;
  /** Serial of the place that a node is, or, of a file, that it is in. */
  place(id: number): number;
  /** Of a file in its place; {@link DIRECTORY} for what is a place itself. */
  position(id: number): number;
  generation(id: number): number;
  /** How often the kernel has looked an id up, less what it has given back. */
  lookups(id: number): number;
  setLookups(id: number, count: number): void;
  /** The next serial. */
  newSerial(): number;
  note(place: Place): void;
  noteShare(share: Share): void;
  /** What has been noted, in that order. @throws NodeTableError */
  read(): { places: Place[]; shares: Share[] };
  /** Whether most of the journal is likely to be of no more use. */
  isLong(): boolean;
  /** Replaces the journal by what is still of use, the places in the order of their serials. */
  rewrite(places: Iterable<Place>, shares: Iterable<Share>): void;
}

/** A directory at one place under one root, as long as anyone may want to know what it was. */
export interface Place {
  serial: number;
  /** Serial of the place above; 0 for the top of a tree. */
  parent: number;
  position: number;
  name: string;
  link: Link | undefined;
  metadata: Metadata | undefined;
  /** Whether an origin is, or was, there. One that is resolved is noted again, with its link. */
  origin: boolean;
}

/** Of a file: the place that it is in, by its serial, and where in it. Of a directory: its own, and {@link DIRECTORY}. */
export interface NodePosition {
  place: number;
  position: number;
}

/** Where else than at its own place a file's id stands. */
export interface Share extends NodePosition {
  id: number;
  generation: number;
}

/** The memory is not that of a table, or not one that this server understands. */
export class NodeTableError extends Error {
  constructor(message: string) {
    super(`the table of nodes: ${message}`);
    this.name = 'NodeTableError';
  }
}

/** Areas that grow independently of one another. The journal is in one of two, and is rewritten into the other. */
export const Area = { slots: 0, journals: [1, 2] } as const;
export const AREA_COUNT = 3;
/** None can be larger. */
export const AREA_BYTES = 2 ** 30;

export interface TableMemory {
  /** The first `bytes` of an area: what was in them before, and beyond that zeros. Valid until it is asked for more. */
  area(area: number, bytes: number): Uint8Array;
}

/** The position of what is no file. */
export const DIRECTORY = 0xffff_ffff;

/** Says what the words mean, and what the kernel has been told: to be changed with either. */
const FORMAT = 0x4c5a_0002;
/** Words of a slot. */
const [PLACE, POSITION, GENERATION, LOOKUPS, SLOT] = [0, 1, 2, 3, 4];
/** Words of slot 0, which is no id's. */
const [HEADER_FORMAT, HEADER_END, HEADER_JOURNAL] = [0, 1, 2];
const FIRST_BYTES = 1 << 16;
/** A journal begins with its length. */
const JOURNAL_HEADER = 8;
const REWRITE_BYTES = 4 << 20;
const Kind = { place: 1, share: 2 } as const;
const SHARE_BYTES = 24;
/** Of a place, without its name. */
const PLACE_BYTES = 80;
const LINK_AT = 20;
const LINK_BYTES = 33;
const METADATA_AT = 56;
const Has = { link: 1, metadata: 2, origin: 4 } as const;

/**
 * @param memory zeros, or what another process has left; without it, the table lives as long as this object, and keeps
 *   no journal
 * @throws NodeTableError
 */
export function openNodeTable(memory?: TableMemory): NodeTable {
  const { area } = memory ?? heap();
  let slots = wordsOf(area(Area.slots, FIRST_BYTES));
  if (slots[HEADER_FORMAT] === 0) {
    slots[HEADER_END] = 1;
    slots[HEADER_FORMAT] = FORMAT;
  }
  if (slots[HEADER_FORMAT] !== FORMAT) throw new NodeTableError(`of format ${slots[HEADER_FORMAT]}`);
  if (slots[HEADER_JOURNAL] > 1) throw new NodeTableError('two journals at most');
  reserve(slots[HEADER_END]);
  /** Which of the two is written. */
  let current = Area.journals[slots[HEADER_JOURNAL]];
  let journal = area(current, FIRST_BYTES);
  let view = viewOf(journal);
  /** Where the next record goes. */
  let at = Math.max(view.getUint32(0, true), JOURNAL_HEADER);
  if (at > AREA_BYTES) throw new NodeTableError(`a journal of ${at} bytes`);
  ensure(0);
  let serials = 0;
  let bytesKept = at;

  function reserve(end: number): void {
    let { length } = slots;
    while (length < end * SLOT) length *= 2;
    if (length > slots.length) slots = wordsOf(area(Area.slots, length * 4));
  }

  /** Makes room for another record. */
  function ensure(bytes: number): void {
    let { length } = journal;
    while (length < at + bytes) length *= 2;
    if (length === journal.length) return;
    journal = area(current, length);
    view = viewOf(journal);
  }

  function begin(kind: number, bytes: number): void {
    ensure(bytes);
    view.setUint32(at, kind, true);
    view.setUint32(at + 4, bytes, true);
  }

  /** Now it is there. */
  function finish(bytes: number): void {
    at += bytes;
    view.setUint32(0, at, true);
  }

  function note({ serial, parent, position, name, link, metadata, origin }: Place): void {
    if (!memory) return;
    const bytes = nameToBytes(name);
    const length = (PLACE_BYTES + bytes.length + 7) & ~7;
    begin(Kind.place, length);
    view.setUint32(at + 8, serial, true);
    view.setUint32(at + 12, parent, true);
    view.setUint32(at + 16, position, true);
    for (let i = 0; link && i < LINK_BYTES; i++) journal[at + LINK_AT + i] = link.charCodeAt(i);
    journal[at + LINK_AT + LINK_BYTES] =
      (link ? Has.link : 0) | (metadata ? Has.metadata : 0) | (origin ? Has.origin : 0);
    view.setFloat64(at + METADATA_AT, metadata?.seconds ?? 0, true);
    view.setUint32(at + METADATA_AT + 8, metadata?.nanoseconds ?? 0, true);
    view.setUint32(at + METADATA_AT + 12, metadata?.mode ?? 0, true);
    view.setUint32(at + METADATA_AT + 16, bytes.length, true);
    journal.set(bytes, at + PLACE_BYTES);
    finish(length);
  }

  function noteShare({ id, generation, place, position }: Share): void {
    if (!memory) return;
    begin(Kind.share, SHARE_BYTES);
    view.setUint32(at + 8, id, true);
    view.setUint32(at + 12, generation, true);
    view.setUint32(at + 16, place, true);
    view.setUint32(at + 20, position, true);
    finish(SHARE_BYTES);
  }

  function placeAt(from: number): Place {
    const has = journal[from + LINK_AT + LINK_BYTES];
    const link = Buffer.from(journal.subarray(from + LINK_AT, from + LINK_AT + LINK_BYTES));
    const length = view.getUint32(from + METADATA_AT + 16, true);
    return {
      serial: view.getUint32(from + 8, true),
      parent: view.getUint32(from + 12, true),
      position: view.getUint32(from + 16, true),
      name: nameFromBytes(Buffer.from(journal.subarray(from + PLACE_BYTES, from + PLACE_BYTES + length))),
      link: has & Has.link ? (link.toString('latin1') as Link) : undefined,
      metadata:
        has & Has.metadata
          ? {
              seconds: view.getFloat64(from + METADATA_AT, true),
              nanoseconds: view.getUint32(from + METADATA_AT + 8, true),
              mode: view.getUint32(from + METADATA_AT + 12, true),
            }
          : undefined,
      origin: (has & Has.origin) !== 0,
    };
  }

  function shareAt(from: number): Share {
    return {
      id: view.getUint32(from + 8, true),
      generation: view.getUint32(from + 12, true),
      place: view.getUint32(from + 16, true),
      position: view.getUint32(from + 20, true),
    };
  }

  return {
    end: () => slots[HEADER_END],
    assign(id, { place, position }) {
      const isNew = id >= slots[HEADER_END];
      if (isNew) reserve(id + 1);
      const slot = id * SLOT;
      slots[slot + LOOKUPS] = 0;
      slots[slot + PLACE] = place;
      slots[slot + POSITION] = position;
      slots[slot + GENERATION] = isNew ? 0 : slots[slot + GENERATION] + 1;
      if (isNew) slots[HEADER_END] = id + 1;
    },
    move(id, { place, position }) {
      // One store: there is no moment at which the id is the file of one place at the position of another.
      const both = new BigUint64Array(slots.buffer, slots.byteOffset + id * SLOT * 4, 1);
      both[0] = (BigInt(position) << 32n) | BigInt(place);
    },
    place: (id) => slots[id * SLOT + PLACE],
    position: (id) => slots[id * SLOT + POSITION],
    generation: (id) => slots[id * SLOT + GENERATION],
    lookups: (id) => slots[id * SLOT + LOOKUPS],
    setLookups(id, count) {
      slots[id * SLOT + LOOKUPS] = count;
    },
    newSerial: () => ++serials,
    note,
    noteShare,
    read() {
      const places: Place[] = [];
      const shares: Share[] = [];
      for (let from = JOURNAL_HEADER; from < at; ) {
        const [kind, length] = [view.getUint32(from, true), view.getUint32(from + 4, true)];
        if (length < JOURNAL_HEADER || from + length > at) throw new NodeTableError('its journal is torn');
        if (kind === Kind.place) places.push(placeAt(from));
        else if (kind === Kind.share) shares.push(shareAt(from));
        else throw new NodeTableError(`a record of kind ${kind}`);
        from += length;
      }
      for (const { serial } of places) serials = Math.max(serials, serial);
      return { places, shares };
    },
    isLong: () => at > REWRITE_BYTES && at > 2 * bytesKept,
    rewrite(places, shares) {
      const other = 1 - slots[HEADER_JOURNAL];
      current = Area.journals[other];
      journal = area(current, FIRST_BYTES);
      view = viewOf(journal);
      at = JOURNAL_HEADER;
      view.setUint32(0, at, true);
      for (const place of places) note(place);
      for (const share of shares) noteShare(share);
      slots[HEADER_JOURNAL] = other;
      bytesKept = at;
    },
  };
}

function wordsOf({ buffer, byteOffset, length }: Uint8Array): Uint32Array {
  return new Uint32Array(buffer, byteOffset, length / 4);
}

function viewOf({ buffer, byteOffset, length }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, length);
}

function heap(): TableMemory {
  const areas: Uint8Array[] = [];
  return {
    area(area, bytes) {
      const larger = new Uint8Array(bytes);
      if (areas[area]) larger.set(areas[area]);
      areas[area] = larger;
      return larger;
    },
  };
}
