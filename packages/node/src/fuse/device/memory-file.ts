import fs from 'node:fs';
import { cFunction, cString, lastError } from '../../c-library.js';

/** <linux/memfd.h> */
const MFD_CLOEXEC = 1;

/**
 * A file that is nowhere but in memory, of zeros that take no room: it goes when nobody has it open any more.
 *
 * @returns its descriptor
 * @throws SystemCallError
 */
export function createMemoryFile(name: string, bytes: number): number {
  const create = cFunction('memfd_create', 'int memfd_create(const void *name, unsigned int flags)');
  const descriptor = create(cString(name), MFD_CLOEXEC);
  if (descriptor < 0) throw lastError('memfd_create');
  try {
    fs.ftruncateSync(descriptor, bytes);
    return descriptor;
  } catch (error) {
    fs.closeSync(descriptor);
    throw error;
  }
}
