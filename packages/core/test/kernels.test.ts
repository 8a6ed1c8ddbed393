import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { AVERAGE_CHUNK, chunkEnd, MAX_CHUNK, MIN_CHUNK } from '../dist/format/chunker.js';
import { createArena } from '../dist/import/arena.js';
import { Compression, decompress } from '../dist/store/record.js';
import { createSnappyEncoder, type SnappyEffort } from '../dist/wasm/snappy-encoder.js';

const ARENA = 1 << 20;
const EFFORTS: SnappyEffort[] = ['quick', 'fast', 'balanced', 'high'];

/** Words of a small vocabulary, with stretches of noise and of one byte. */
function mixedBytes(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed >>> 0 || 1;
  const next = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % below;
  };
  const words = Array.from({ length: 200 }, () => randomBytes(2 + next(14)));
  for (let at = 0; at < length; ) {
    const kind = next(40);
    const piece =
      kind === 0
        ? randomBytes(1 + next(400))
        : kind === 1
          ? Buffer.alloc(1 + next(300), next(256))
          : words[next(200)];
    at += piece.copy(bytes, at);
  }
  return bytes;
}

const LENGTHS = [
  0, 1, 11, 12, 13, 14, 31, 32, 63, 64, 100, 255, 256, 1000, 4096, 16384, 65535, 65536, 70000, 200000,
];

describe.each(EFFORTS)('snappy with %s effort', (effort) => {
  const encode = createSnappyEncoder(effort);
  const arena = createArena(ARENA, effort);

  it.each(LENGTHS)('gives back %i bytes', (length) => {
    for (const content of [mixedBytes(length, length + 7), randomBytes(length), Buffer.alloc(length, 65)]) {
      expect(Buffer.compare(decompress(Compression.snappy, encode(content), length), content)).toBe(0);
    }
  });

  it('gives the same wherever the input lies', () => {
    for (let round = 0; round < 30; round++) {
      const length = 1 + ((round * 7919) % MAX_CHUNK);
      const content = mixedBytes(length, round);
      const at = (round * 104729) % (ARENA - length);
      randomBytes(ARENA).copy(arena.bytes);
      content.copy(arena.bytes, at);
      const encoded = Buffer.from(arena.encode(arena.bytes.subarray(at, at + length)));
      expect(encoded.equals(encode(content))).toBe(true);
      expect(encoded.equals(arena.encode(content))).toBe(true);
    }
  });

  it('takes a whole frame', () => {
    const frame = mixedBytes(3 << 20, 5);
    expect(Buffer.compare(decompress(Compression.snappy, encode(frame), frame.length), frame)).toBe(0);
  });
});

describe('an arena', () => {
  const arena = createArena(ARENA, 'quick');

  it.each(['mixed', 'random', 'zeros'])('cuts as the format says: %s', (kind) => {
    for (let round = 0; round < 20; round++) {
      if (kind === 'mixed') mixedBytes(ARENA, round + 1).copy(arena.bytes);
      else if (kind === 'random') randomBytes(ARENA).copy(arena.bytes);
      else arena.bytes.fill(0);
      for (let at = round; at < ARENA; ) {
        const end = chunkEnd(arena.bytes, at, ARENA);
        expect(arena.chunkEnd(at, ARENA)).toBe(end);
        at = end;
      }
    }
  });

  it('cuts nothing that is short', () => {
    for (const length of [0, 1, MIN_CHUNK - 1, MIN_CHUNK])
      expect(arena.chunkEnd(5, 5 + length)).toBe(5 + length);
    expect(arena.chunkEnd(0, MIN_CHUNK + 1)).toBe(chunkEnd(arena.bytes, 0, MIN_CHUNK + 1));
    expect(arena.chunkEnd(0, AVERAGE_CHUNK)).toBe(chunkEnd(arena.bytes, 0, AVERAGE_CHUNK));
  });
});
