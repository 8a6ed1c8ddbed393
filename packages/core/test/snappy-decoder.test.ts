import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { compressSync, uncompressSync } from 'snappy';
import { describe, expect, test } from 'vitest';
import { createSnappyDecoder } from '../dist/wasm/snappy-decoder.js';
import { createSnappyEncoder } from '../dist/wasm/snappy-encoder.js';

const BYTES = 4 << 20;
const OUTPUT = 2 << 20;
const { memory, slack, decode } = createSnappyDecoder(BYTES);

function decoded(block: Uint8Array, length: number): Buffer | undefined {
  memory.set(block, 0);
  return decode(0, block.length, OUTPUT, length)
    ? Buffer.from(memory.subarray(OUTPUT, OUTPUT + length))
    : undefined;
}

/** Bytes with repetitions near and far, as files have them. */
const content = fc
  .array(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat(12)), { maxLength: 200 })
  .map((parts) =>
    Buffer.concat(parts.flatMap(([bytes, times]) => Array.from({ length: times + 1 }, () => bytes))),
  );

describe('decodes what encoders write', () => {
  test('ours and the stock one, for any content', () => {
    const encoders = [
      ...(['fast', 'balanced', 'high', 'quick'] as const).map((effort) => createSnappyEncoder(effort)),
    ];
    fc.assert(
      fc.property(content, (bytes) => {
        for (const encode of encoders)
          expect(decoded(Buffer.from(encode(bytes)), bytes.length)).toEqual(bytes);
        expect(decoded(compressSync(bytes), bytes.length)).toEqual(bytes);
      }),
    );
  });

  test.each([0, 1, 59, 60, 61, 255, 256, 65535, 65536, 1 << 20])(
    '%i bytes that cannot be compressed',
    (length) => {
      const bytes = randomBytes(length);
      expect(decoded(compressSync(bytes), length)).toEqual(bytes);
    },
  );

  test.each([1, 2, 3, 7, 8, 9, 15, 16, 17, 31])('a pattern of %i bytes', (period) => {
    const pattern = randomBytes(period);
    const bytes = Buffer.alloc(100_000).map((_, i) => pattern[i % period]);
    expect(decoded(compressSync(bytes), bytes.length)).toEqual(Buffer.from(bytes));
  });
});

describe('is not misled', () => {
  const GUARD = 0xa5;

  /** Decodes with all other memory marked, and checks that nothing was written there. */
  function guarded(block: Uint8Array, length: number): Buffer | undefined {
    memory.fill(GUARD, OUTPUT - 4096, OUTPUT);
    memory.fill(GUARD, OUTPUT + length + slack, OUTPUT + length + slack + 4096);
    const found = decoded(block, length);
    expect(memory.subarray(OUTPUT - 4096, OUTPUT).every((byte) => byte === GUARD)).toBe(true);
    const behind = memory.subarray(OUTPUT + length + slack, OUTPUT + length + slack + 4096);
    expect(behind.every((byte) => byte === GUARD)).toBe(true);
    return found;
  }

  function expected(block: Uint8Array): Buffer | undefined {
    try {
      return uncompressSync(Buffer.from(block), { asBuffer: true }) as Buffer;
    } catch {
      return undefined;
    }
  }

  test('by damaged blocks: it says what the stock decoder says', () => {
    fc.assert(
      fc.property(
        content,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (bytes, edits) => {
          const block = compressSync(bytes);
          for (const [at, value] of edits) block[at % block.length] = value;
          const stock = expected(block);
          const ours = guarded(block, bytes.length);
          if (stock?.length === bytes.length) expect(ours).toEqual(stock);
          else expect(ours).toBeUndefined();
        },
      ),
      { numRuns: 300 },
    );
  });

  test('by any bytes at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(5000), (block, length) => {
        const ours = guarded(block, length);
        const stock = expected(block);
        if (stock?.length === length) expect(ours).toEqual(stock);
        else expect(ours).toBeUndefined();
      }),
      { numRuns: 2000 },
    );
  });

  test('by a block that is cut short or goes on', () => {
    const bytes = Buffer.from('the same again, the same again, the same again'.repeat(20));
    const block = compressSync(bytes);
    for (let length = 0; length < block.length; length++) {
      expect(guarded(block.subarray(0, length), bytes.length)).toBeUndefined();
    }
    expect(guarded(Buffer.concat([block, Buffer.of(0, 65)]), bytes.length)).toBeUndefined();
    expect(guarded(block, bytes.length - 1)).toBeUndefined();
  });
});
