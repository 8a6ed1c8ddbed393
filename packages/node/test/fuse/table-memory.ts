import { AREA_COUNT, type TableMemory } from '../../dist/fuse/tree/node-table.js';

/** Memory that is another object whenever it is asked for, as a file is that is mapped again. */
export function tableMemory(): TableMemory {
  const areas = Array.from(
    { length: AREA_COUNT },
    () => new SharedArrayBuffer(0, { maxByteLength: 64 << 20 }),
  );
  return {
    area(area, bytes) {
      if (areas[area].byteLength < bytes) areas[area].grow(bytes);
      return new Uint8Array(areas[area], 0, bytes);
    },
  };
}
