import { createHash, randomUUID } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { errnoOf, fromSystemError, type Link } from '@lazytree/core';

/** What a blob of git is in the store. */
export interface KnownFile {
  link: Link;
  size: number;
}

const MAGIC = Buffer.from('LZTKNOWN1');
const DIGEST_BYTES = 32;
const LINK_BYTES = 33;
const SIZE_BYTES = 4;
/** Files that are remembered of one commit. */
const MAX_FILES = 500_000;

/**
 * The files of the commit that was written last, by the ids of their blobs: those that the next one has as well need not
 * be read from the repository again. A file that is damaged, or of another version, is as if there were none.
 */
export async function readKnownFiles(file: string, idBytes: number): Promise<Map<string, KnownFile>> {
  const known = new Map<string, KnownFile>();
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return known;
    throw fromSystemError(error, `reading ${file}`);
  }
  const begin = MAGIC.length + DIGEST_BYTES;
  const records = bytes.subarray(begin);
  const record = idBytes + LINK_BYTES + SIZE_BYTES;
  if (!bytes.subarray(0, begin).equals(headOf(records)) || records.length % record !== 0) return known;
  for (let at = 0; at < records.length; at += record) {
    const link = at + idBytes;
    const size = link + LINK_BYTES;
    known.set(records.toString('hex', at, link), {
      link: records.toString('latin1', link, size) as Link,
      size: records.readUInt32LE(size),
    });
  }
  return known;
}

/** Not durable: what a crash leaves of it does not have its digest. */
export async function writeKnownFiles(file: string, known: ReadonlyMap<string, KnownFile>): Promise<void> {
  const pieces: Buffer[] = [];
  for (const [id, { link, size }] of known) {
    if (pieces.length === MAX_FILES) break;
    const bytes = Buffer.alloc(SIZE_BYTES);
    bytes.writeUInt32LE(size);
    pieces.push(Buffer.concat([Buffer.from(id, 'hex'), Buffer.from(link, 'latin1'), bytes]));
  }
  const records = Buffer.concat(pieces);
  const draft = `${file}.${randomUUID()}`;
  try {
    await writeFile(draft, Buffer.concat([headOf(records), records]), { mode: 0o600 });
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true });
    throw fromSystemError(error, `writing ${file}`);
  }
}

function headOf(records: Buffer): Buffer {
  return Buffer.concat([MAGIC, createHash('sha256').update(records).digest()]);
}
