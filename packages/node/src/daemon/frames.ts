/**
 * What the daemon answers to a command: frames of one byte that says what it is, the payload's length as a
 * little-endian u32, and the payload.
 */
export const Frame = {
  /** Bytes for stdout. */
  stdout: 1,
  /** UTF-8 text for stderr: warnings, and the line of an error. */
  stderr: 2,
  /** JSON: a {@link ProgressEvent}. */
  progress: 3,
  /** JSON `{exitCode}`: what the command found out, before its stdout; for a caller whose reader goes away. */
  outcome: 4,
  /** JSON `{exitCode}`: the command has ended. The last frame. */
  end: 5,
} as const;

export type FrameKind = (typeof Frame)[keyof typeof Frame];

export interface ProgressState {
  files: number;
  bytes: number;
  totalFiles?: number;
  totalBytes?: number;
}

/** A bar begins, is at some state, or ends. */
export type ProgressEvent =
  | { bar: number; label: string }
  | { bar: number; state: ProgressState }
  | { bar: number; stop: true };

const HEADER = 5;
/** What a reader has to be ready for; longer output comes in several frames. */
export const MAX_PAYLOAD = 1 << 20;

/** The frames that a payload of any length takes, each as its header and, without a copy, its part of the payload. */
export function* encodeFrames(kind: FrameKind, payload: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < payload.length || at === 0; at += MAX_PAYLOAD) {
    const part = payload.subarray(at, at + MAX_PAYLOAD);
    const header = Buffer.allocUnsafe(HEADER);
    header.writeUInt8(kind, 0);
    header.writeUInt32LE(part.length, 1);
    yield header;
    if (part.length > 0) yield part;
  }
}

export interface ReadFrame {
  kind: number;
  payload: Buffer;
}

/**
 * Takes bytes as they come and returns the frames that are whole. Frames of kinds that are not known here are
 * returned as well: a reader passes over them.
 *
 * @throws Error when a frame says that it is longer than any can be
 */
export function createFrameReader(): (bytes: Buffer) => Generator<ReadFrame> {
  let parts: Buffer[] = [];
  let have = 0;
  let need = HEADER;
  return function* read(bytes) {
    parts.push(bytes);
    have += bytes.length;
    while (have >= need) {
      const buffer = parts.length === 1 ? parts[0] : Buffer.concat(parts, have);
      const length = buffer.readUInt32LE(1);
      if (length > MAX_PAYLOAD) throw new Error(`a frame of ${length} bytes`);
      need = HEADER + length;
      const whole = have >= need;
      const rest = whole ? buffer.subarray(need) : buffer;
      parts = rest.length > 0 ? [rest] : [];
      have = rest.length;
      if (!whole) return;
      const frame = { kind: buffer.readUInt8(0), payload: buffer.subarray(HEADER, need) };
      need = HEADER;
      yield frame;
    }
  };
}
