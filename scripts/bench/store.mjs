// Whether the store keeps its speed as it grows: small blocks, gigabyte after gigabyte, through the API.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { linkTo, openLocalStore, RAW } from '@lazytree/core';
import { VerificationError } from './lib/command.mjs';
import { quantity } from './lib/numbers.mjs';
import { randomBytes } from './lib/random.mjs';
import { valueRow } from './lib/row.mjs';

const GIGABYTE = 1e9;
/** Blocks have from half to one and a half times this many bytes. */
const BLOCK = 8192;
const BATCH = 4 << 20;
const CHECKED_EVERY = 9973;
const MIN_LAST_TO_FIRST = 0.7;

/**
 * @typedef {import('@lazytree/core').LocalStore} LocalStore
 * @typedef {import('@lazytree/core').Block} Block
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const gigabytes = Number(process.env.LAZYTREE_BENCH_GB ?? 10);
  if (!(gigabytes >= 1)) throw new Error('LAZYTREE_BENCH_GB has to be 1 or more');
  const directory = join(context.fresh('store'), 'store');
  const filler = createFiller();
  /** @type {number[]} */
  const rates = [];
  let store = await openLocalStore(directory);
  for (let i = 0; i < gigabytes; i++) {
    const seconds = await filler.put(store, GIGABYTE);
    rates.push(GIGABYTE / 1e6 / seconds);
    context.progress(`store, GB ${i + 1} of ${gigabytes}: ${rates[i].toFixed(0)} MB/s`);
  }
  await store.close();
  store = await openLocalStore(directory, { create: false });
  await filler.verify(store);
  await store.close();
  // Few and large files: removing them slows nothing down, and keeping them might fill the disk.
  rmSync(directory, { recursive: true });
  const [first] = rates;
  const last = rates[rates.length - 1];
  yield valueRow(`store: GB ${gigabytes} against GB 1, 8 KiB blocks`, quantity(last / first, 'x'), {
    min: MIN_LAST_TO_FIRST,
    samples: { megabytesPerSecond: rates },
    note: `MB/s for each GB: ${rates.map((rate) => rate.toFixed(0)).join(', ')}`,
  });
}

function createFiller() {
  const next = randomBytes(1);
  /** @type {Block[]} */
  const checked = [];
  let count = 0;
  return {
    /**
     * Puts blocks that the store does not have, and makes them durable.
     * @param {LocalStore} store
     * @param {number} bytes
     * @returns {Promise<number>} seconds, those for making up the data not counted
     */
    async put(store, bytes) {
      let seconds = 0;
      for (let left = bytes; left > 0; left -= BATCH) {
        const batch = split(next(Math.min(left, BATCH)));
        const start = performance.now();
        for (const block of batch) {
          const link = linkTo(RAW, block);
          await store.put({ link, bytes: block });
          if (count++ % CHECKED_EVERY === 0) checked.push({ link, bytes: Buffer.from(block) });
        }
        if (left <= BATCH) await store.flush();
        seconds += (performance.now() - start) / 1000;
      }
      return seconds;
    },
    /** @param {LocalStore} store */
    async verify(store) {
      for (const { link, bytes } of checked) {
        if (!(await store.has(link)) || Buffer.compare(await store.get(link), bytes) !== 0)
          throw new VerificationError('a block of the store is gone or is another');
      }
    },
  };
}

/** @param {Buffer} data */
function* split(data) {
  for (let offset = 0; offset < data.length; ) {
    const end = offset + BLOCK / 2 + (data[offset] / 255) * BLOCK;
    yield data.subarray(offset, Math.floor(end));
    offset = Math.floor(end);
  }
}
