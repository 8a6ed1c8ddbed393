import { Answer } from './exchange.js';

/** Of the field `records`: its number, and that it is bytes. */
const RECORDS_TAG = (2 << 3) | 2;

/** A message as its parts, so that records are sent from where they were read. */
export function encodeAnswer({ records, ...rest }: Partial<Answer>): Uint8Array[] {
  if (!records || records.length === 0) return [Answer.encode(rest)];
  return [Answer.encode(rest), Uint8Array.of(RECORDS_TAG, ...varint(records.length)), records];
}

function* varint(value: number): Generator<number> {
  let rest = value;
  for (; rest > 127; rest >>>= 7) yield (rest & 127) | 128;
  yield rest;
}
