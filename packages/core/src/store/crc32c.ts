const POLYNOMIAL = 0x82f63b78;

const TABLE = new Uint32Array(256).map((_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli), as LevelDB has it in its files: rotated, plus a constant. */
export function maskedCrc32c(bytes: Uint8Array, start: number, end: number): number {
  return mask(extend(~0, bytes, start, end));
}

/** Whether any beginning of `bytes` from `start` on has this CRC. */
export function isCrcOfBeginning(masked: number, bytes: Uint8Array, start: number): boolean {
  let crc = ~0;
  for (let i = start; i < bytes.length; i++) {
    crc = extend(crc, bytes, i, i + 1);
    if (mask(crc) === masked) return true;
  }
  return false;
}

function extend(crc: number, bytes: Uint8Array, start: number, end: number): number {
  let next = crc;
  for (let i = start; i < end; i++) next = TABLE[(next ^ bytes[i]) & 0xff] ^ (next >>> 8);
  return next;
}

function mask(crc: number): number {
  const whole = ~crc;
  return (((whole >>> 15) | (whole << 17)) + 0xa282ead8) >>> 0;
}
