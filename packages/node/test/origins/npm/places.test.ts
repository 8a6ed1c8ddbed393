import { describe, expect, test } from 'vitest';
import { createPlaces } from '../../../src/origins/npm/places.js';

describe('places', () => {
  const signal = new AbortController().signal;

  /** A place that is taken until it is given back, and others that wait for it in this order. */
  function taken() {
    const places = createPlaces(1);
    const first = Promise.withResolvers<void>();
    const order: string[] = [];
    const ends: Promise<void>[] = [places(() => first.promise, { signal, isAhead: () => false })];
    const wait = (name: string, isAhead: () => boolean, until = signal) => {
      const end = places(async () => void order.push(name), { signal: until, isAhead });
      ends.push(end);
      return end;
    };
    const go = async () => {
      first.resolve();
      await Promise.allSettled(ends);
      return order;
    };
    return { wait, go };
  }

  test('go to what somebody waits for before what nobody waits for', async () => {
    const { wait, go } = taken();
    wait('ahead', () => true);
    wait('demanded', () => false);
    wait('ahead too', () => true);
    wait('demanded too', () => false);
    expect(await go()).toEqual(['demanded', 'demanded too', 'ahead', 'ahead too']);
  });

  test('go to what somebody has begun to wait for meanwhile', async () => {
    const { wait, go } = taken();
    let isAhead = true;
    wait('ahead', () => true);
    wait('later demanded', () => isAhead);
    isAhead = false;
    expect(await go()).toEqual(['later demanded', 'ahead']);
  });

  test('are not kept for who has given up', async () => {
    const { wait, go } = taken();
    const stop = new AbortController();
    const gone = wait('gone', () => false, stop.signal);
    wait('here', () => true);
    stop.abort(new Error('enough'));
    await expect(gone).rejects.toThrow('enough');
    expect(await go()).toEqual(['here']);
  });
});
