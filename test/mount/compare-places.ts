import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';

/** `compare-places.ts A B PARALLEL PLACES`: reads some KiB at each place of two files, which have to be the same. */
const [, , a, b, parallel, places] = process.argv;
const SIZE = 70_000;

const queue: number[] = JSON.parse(places);

async function compare(): Promise<void> {
  const files = [await open(a), await open(b)];
  for (let place = queue.pop(); place !== undefined; place = queue.pop()) {
    const [one, two] = await Promise.all(
      files.map(async (file) => {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(SIZE), 0, SIZE, place);
        return buffer.subarray(0, bytesRead);
      }),
    );
    assert.ok(one.equals(two), `they differ at ${place}`);
  }
  for (const file of files) await file.close();
}

await Promise.all(Array.from({ length: Number(parallel) }, compare));
