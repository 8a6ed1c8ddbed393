import { cFunction, lastError, library } from '../../c-library.js';
import { AREA_BYTES, type TableMemory } from '../tree/node-table.js';

/** <sys/mman.h> */
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const FAILED = 0xffff_ffff_ffff_ffffn;

/** Loads what {@link mapTable} needs. */
export function prepareMapping(): void {
  mmap();
}

/**
 * The memory of a table in a file: what is written to it needs no system call, and is there for whoever has the file
 * open when this process has ended, however it has.
 */
export function mapTable(descriptor: number): TableMemory & { close(): void } {
  const mappings: { at: bigint; bytes: number }[] = [];
  return {
    area(area, bytes) {
      if (bytes > AREA_BYTES) throw new RangeError(`a table of nodes of ${bytes} bytes`);
      const at = mmap()(null, bytes, PROT_READ_WRITE, MAP_SHARED, descriptor, area * AREA_BYTES);
      if (at === FAILED) throw lastError('mmap');
      mappings.push({ at, bytes });
      return new Uint8Array(library().view(at, bytes));
    },
    close() {
      for (const { at, bytes } of mappings.splice(0)) {
        cFunction('munmap', 'int munmap(void *at, size_t bytes)')(at, bytes);
      }
    },
  };
}

type Mmap = (...args: unknown[]) => bigint;

function mmap(): Mmap {
  const found: unknown = cFunction(
    'mmap',
    'void *mmap(void *at, size_t bytes, int protection, int flags, int descriptor, long offset)',
  );
  return found as Mmap;
}
