import fs from 'node:fs';
import { crc32 } from 'node:zlib';
import { fromSystemError } from '../errors.js';
import { toFsPath } from '../format/name.js';
import {
  checkHeader,
  cutShort,
  damaged,
  decodeIndex,
  decodeTrailer,
  HEADER_BYTES,
  type ImageIndex,
  notAnImage,
  type PlacedFrame,
  TRAILER_BYTES,
} from './format.js';
import { decompressFrame } from './frame-compression.js';

/** An image that is open, with its index read and checked. */
export interface ImageFile extends ImageIndex {
  fd: number;
  /** Bytes of the whole file. */
  size: number;
  close(): void;
}

/** Opening a pipe does not wait for someone to write to it. */
const FLAGS = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK;

/**
 * Opens an image and reads its header, trailer and index, nothing else.
 *
 * @throws LazytreeError CORRUPT, UNSUPPORTED (another version), NOT_FOUND, REFUSED
 */
export function openImageFile(file: string): ImageFile {
  let fd: number | undefined;
  try {
    fd = fs.openSync(toFsPath(file), FLAGS);
    return readImageFile(fd, file);
  } catch (error) {
    if (fd !== undefined) fs.closeSync(fd);
    throw fromSystemError(error, `opening '${file}'`);
  }
}

function readImageFile(fd: number, file: string): ImageFile {
  const stat = fs.fstatSync(fd);
  if (!stat.isFile()) throw notAnImage(file);
  const { size } = stat;
  checkHeader(readAt(fd, 0, Math.min(size, HEADER_BYTES)), file);
  if (size < HEADER_BYTES + TRAILER_BYTES) throw cutShort(file);
  const place = decodeTrailer(readAt(fd, size - TRAILER_BYTES, TRAILER_BYTES), size, file);
  const index = decodeIndex(readFrame(fd, place, file), place.offset, file);
  let open = true;
  return {
    ...index,
    fd,
    size,
    close() {
      if (open) fs.closeSync(fd);
      open = false;
    },
  };
}

/** A frame's bytes, checked and decompressed. @throws LazytreeError CORRUPT */
export function readFrame(fd: number, frame: PlacedFrame, file: string): Buffer {
  const { offset, stored, raw, crc, compression } = frame;
  const payload = readAt(fd, offset, stored);
  if (payload.length < stored) throw cutShort(file);
  if (crc32(payload) !== crc) throw damaged(file, `the checksum of the bytes at ${offset} does not match`);
  try {
    const bytes = decompressFrame(compression, payload, raw);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  } catch (error) {
    throw damaged(file, `the bytes at ${offset} do not decompress`, error);
  }
}

/** Fewer bytes where the file ends. */
function readAt(fd: number, offset: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(length);
  let done = 0;
  while (done < length) {
    const read = fs.readSync(fd, buffer, done, length - done, offset + done);
    if (read === 0) break;
    done += read;
  }
  return buffer.subarray(0, done);
}
