import { UntrueRecordError } from '@lazytree/core';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { block, pseudoRandom, temporaryStore } from '../../../core/test/helpers.ts';
import { createVerifier, type Verifier } from '../../dist/fetch/verifier.js';

const SIZE = 100_000;
const RECORD_HEADER = 52;
let records: Buffer;
let verifier: Verifier;

/** In a buffer of their own, behind something else, as in a message. */
function received(): Buffer {
  const message = Buffer.allocUnsafeSlow(10 + records.length);
  records.copy(message, 10);
  return message.subarray(10);
}

beforeEach(async () => {
  const store = await temporaryStore();
  const one = block(pseudoRandom(SIZE, 1));
  await store.put(one);
  await store.flush();
  const place = store.locate(one.link);
  if (!place) throw new Error('it is not there');
  records = store.segments.read(place, RECORD_HEADER + place.stored);
  verifier = createVerifier();
  verifier.expect(64 << 20);
  // Threads take a while to start; what they check moves to them.
  await vi.waitFor(async () => {
    const bytes = received();
    await verifier.verify(bytes, true);
    expect(bytes.length).toBe(0);
  }, 10_000);
});

afterEach(() => verifier.close());

it('gives back what nobody else has, and leaves alone what somebody may have', async () => {
  const mine = received();
  const moved = await verifier.verify(mine, true);
  expect(mine.length).toBe(0);
  expect(Buffer.compare(moved.bytes, records)).toBe(0);
  expect(moved.content(0).length).toBe(SIZE);
  const shared = received();
  const checked = await verifier.verify(shared);
  expect(Buffer.compare(shared, records)).toBe(0);
  expect(Buffer.compare(checked.bytes, records)).toBe(0);
});

it('finds a byte that was changed, wherever it was checked', async () => {
  for (const exclusive of [true, false]) {
    const bytes = received();
    bytes[SIZE >> 1] ^= 1;
    await expect(verifier.verify(bytes, exclusive)).rejects.toThrow(UntrueRecordError);
  }
});
