import type { Link } from '../format/link.js';
import type { Survey } from '../import/survey.js';

export interface ExportOptions {
  /**
   * What to do with a directory that is not empty. `refuse`, the default; `force`: write the tree over what is
   * there, leaving what the tree does not have; `update`: make it equal to the tree, touching only what differs.
   */
  existing?: 'refuse' | 'force' | 'update';
  /** Where to remember what was written, so that an update reads only what has changed. */
  statCache?: string;
  /** Of the same directory and cache, when the caller has begun one. It is stopped in the end. */
  survey?: Survey | undefined;
  threads?: number;
  signal?: AbortSignal;
  onProgress?: (progress: ExportProgress) => void;
}

export interface ExportProgress {
  files: number;
  bytes: number;
  /** Of the whole tree, or of what has to be written once that is known. */
  totalFiles: number;
  totalBytes: number;
}

export interface ExportResult {
  root: Link;
  /** Files and bytes that were written. */
  files: number;
  bytes: number;
  /** Entries that were deleted. */
  removed: number;
  /** Unresolved origin entries, which are not written. */
  origins: string[];
}
