/** Buffers for batches of records that are used again: memory that was touched before costs no page faults and no collector. */
export interface RecordBuffers {
  /** A buffer of at least so many bytes. */
  room(bytes: number): Buffer;
  /** Takes back what a buffer lay in, once nobody reads it any more. */
  giveBack(memory: ArrayBuffer): void;
}

const SPARES = 4;

/** @param usual bytes that are enough for most batches */
export function createRecordBuffers(usual: number): RecordBuffers {
  const spares: ArrayBuffer[] = [];
  return {
    room(bytes) {
      const spare = spares.pop();
      const enough = spare !== undefined && spare.byteLength >= bytes;
      return enough ? Buffer.from(spare) : Buffer.allocUnsafeSlow(Math.max(bytes, usual));
    },
    giveBack(memory) {
      if (spares.length < SPARES) spares.push(memory);
    },
  };
}
