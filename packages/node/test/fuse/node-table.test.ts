import { DAG_CBOR, type Link, linkTo } from '@lazytree/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nameArbitrary } from '../../../core/test/helpers.ts';
import {
  Area,
  DIRECTORY,
  NodeTableError,
  openNodeTable,
  type Place,
  type Share,
} from '../../dist/fuse/tree/node-table.js';
import { tableMemory } from './table-memory.ts';

const LINK = linkTo(DAG_CBOR, Buffer.from('directory'));

const placeArbitrary: fc.Arbitrary<Omit<Place, 'serial'>> = fc.record({
  parent: fc.nat(100),
  position: fc.nat(1e9),
  name: fc.oneof(nameArbitrary, fc.constant('')),
  link: fc.option(fc.constant(LINK as Link), { nil: undefined }),
  origin: fc.boolean(),
  metadata: fc.option(
    fc.record({
      mode: fc.nat(0o7777),
      seconds: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
      nanoseconds: fc.nat(999_999_999),
    }),
    { nil: undefined },
  ),
});

const shareArbitrary: fc.Arbitrary<Share> = fc.record({
  id: fc.nat(1e6),
  generation: fc.nat(1e6),
  place: fc.nat(1e6),
  position: fc.nat(1e6),
});

describe('a table of nodes', () => {
  it('says to the next process what was noted, also when it was rewritten in between', () => {
    fc.assert(
      fc.property(
        fc.array(placeArbitrary),
        fc.array(shareArbitrary),
        fc.nat(3),
        (places, shares, rewritten) => {
          const memory = tableMemory();
          let table = openNodeTable(memory);
          const noted = places.map((place) => ({ ...place, serial: table.newSerial() }));
          for (const place of noted) table.note(place);
          for (const share of shares) table.noteShare(share);
          for (let round = 0; round < rewritten; round++) {
            expect(openNodeTable(memory).read()).toEqual({ places: noted, shares });
            table.rewrite(noted, shares);
          }
          table = openNodeTable(memory);
          expect(table.read()).toEqual({ places: noted, shares });
          expect(table.newSerial()).toBe(places.length + 1);
        },
      ),
    );
  });

  it('has more ids than any first piece of memory', () => {
    const memory = tableMemory();
    const table = openNodeTable(memory);
    for (let id = 1; id < 200_000; id++) {
      table.assign(id, { place: id % 7, position: id % 11 === 0 ? DIRECTORY : id });
      table.setLookups(id, id % 5);
    }
    table.assign(77, { place: 1, position: 2 });
    table.move(78, { place: 3, position: 4 });
    const next = openNodeTable(memory);
    expect(next.end()).toBe(200_000);
    const slot = (id: number) => [next.place(id), next.position(id), next.generation(id), next.lookups(id)];
    expect([76, 77, 78, 79, 110].map(slot)).toEqual([
      [6, 76, 0, 1],
      [1, 2, 1, 0],
      [3, 4, 0, 3],
      [2, 79, 0, 4],
      [5, DIRECTORY, 0, 0],
    ]);
  });

  it('is refused when it is of another format, or torn', () => {
    const other = tableMemory();
    other.area(Area.slots, 1 << 16)[0] = 1;
    expect(() => openNodeTable(other)).toThrow(NodeTableError);

    const torn = tableMemory();
    const table = openNodeTable(torn);
    const serial = table.newSerial();
    table.note({ serial, parent: 0, position: 0, name: 'x', link: LINK, metadata: undefined, origin: false });
    const journal = torn.area(Area.journals[0], 1 << 16);
    journal[12] = 200;
    expect(() => openNodeTable(torn).read()).toThrow(NodeTableError);
    journal[8] = 77;
    expect(() => openNodeTable(torn).read()).toThrow(NodeTableError);
  });
});
