// Data that compresses as text does, the same for the same seed.
import { randomBytes } from './random.mjs';

const LINES = 1 << 16;
const WORDS = [
  'request',
  'module',
  'answered',
  'from',
  'cache',
  'import',
  'while',
  'const',
  'resolved',
  'of',
  'the',
];

/**
 * Lines of a log, some 100 bytes each, in an order that does not repeat.
 * @param {number} seed
 * @returns {(bytes: number) => Buffer} the next that many bytes
 */
export function textBytes(seed) {
  const next = randomBytes(seed);
  const lines = Array.from({ length: LINES }, (_, i) => Buffer.from(line(i, next(12))));
  let rest = Buffer.alloc(0);
  return (bytes) => {
    const parts = [rest];
    let length = rest.length;
    while (length < bytes) {
      const picks = next(8192);
      for (let at = 0; at < picks.length; at += 2) {
        const picked = lines[picks.readUInt16LE(at)];
        parts.push(picked);
        length += picked.length;
      }
    }
    const text = Buffer.concat(parts);
    rest = text.subarray(bytes);
    return text.subarray(0, bytes);
  };
}

/**
 * @param {number} number
 * @param {Buffer} random
 */
function line(number, random) {
  const words = [...random.subarray(0, 8)].map((byte) => WORDS[byte % WORDS.length]).join(' ');
  return `12:${number % 60}:07 ${random.readUInt32LE(8)} info ${words} /node_modules/package-${number % 997}/index.js\n`;
}
