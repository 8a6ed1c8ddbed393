import fs from 'node:fs';
import { type Metadata, MODE_MASK } from '../format/entry.js';
import { toFsPath } from '../format/name.js';
import { splitNanoseconds } from './ingest.js';

/** Permission bits and modification time of what is at `path`, a symlink itself if it is one. */
export function readMetadata(path: string): Metadata {
  const { mode, mtimeNs } = fs.lstatSync(toFsPath(path), { bigint: true });
  const [seconds, nanoseconds] = splitNanoseconds(mtimeNs);
  return { mode: Number(mode) & MODE_MASK, seconds, nanoseconds };
}
