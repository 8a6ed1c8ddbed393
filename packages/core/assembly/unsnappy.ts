/**
 * Snappy block decoder, compiled to WebAssembly by AssemblyScript.
 *
 * Format: https://github.com/google/snappy/blob/main/format_description.txt
 *
 * Input and output lie in this module's memory, at addresses that the caller chooses. Behind the output there are
 * SLACK bytes that may be written over; behind the input, SLACK bytes that may be read. Nothing else is touched,
 * whatever the input says.
 */

/** Bytes that the caller leaves free behind the output and behind the input. */
export const SLACK: usize = 64;

const LITERAL: u32 = 0;
const COPY_1: u32 = 1;
const COPY_2: u32 = 2;

/** Makes the memory at least so large. Returns whether it is. */
export function reserve(bytes: u32): bool {
  const have = memory.size() << 16;
  if (have >= <i32>bytes) return true;
  return memory.grow((bytes - <u32>have + 0xffff) >>> 16) >= 0;
}

/**
 * Decodes the block of `length` bytes at `from` to `to`.
 *
 * @param expected bytes that the block has to decode to, as its beginning says as well
 * @returns whether it is a block of just that many bytes
 */
export function decode(from: usize, length: u32, to: usize, expected: u32): bool {
  const inputEnd = from + length;
  const outputEnd = to + expected;
  let input = from;
  let output = to;

  let size: u64 = 0;
  let shift: u64 = 0;
  while (true) {
    if (input >= inputEnd || shift > 28) return false;
    const byte = load<u8>(input++);
    size |= <u64>(byte & 127) << shift;
    if (byte < 128) break;
    shift += 7;
  }
  if (size != expected) return false;

  while (input < inputEnd) {
    const tag: u32 = load<u8>(input++);
    const kind = tag & 3;
    if (kind == LITERAL) {
      let count: u32 = (tag >>> 2) + 1;
      if (count > 60) {
        const extra: u32 = count - 60;
        if (input + extra > inputEnd) return false;
        count = load<u32>(input);
        if (extra < 4) count &= (1 << (extra << 3)) - 1;
        input += extra;
        if (count == 0xffffffff) return false;
        count += 1;
      }
      if (count > <u32>(inputEnd - input) || count > <u32>(outputEnd - output)) return false;
      copyForward(output, input, count);
      input += count;
      output += count;
      continue;
    }
    let count: u32;
    let offset: u32;
    if (kind == COPY_1) {
      if (input + 1 > inputEnd) return false;
      count = ((tag >>> 2) & 7) + 4;
      offset = ((tag >>> 5) << 8) | load<u8>(input);
      input += 1;
    } else if (kind == COPY_2) {
      if (input + 2 > inputEnd) return false;
      count = (tag >>> 2) + 1;
      offset = load<u16>(input);
      input += 2;
    } else {
      if (input + 4 > inputEnd) return false;
      count = (tag >>> 2) + 1;
      offset = load<u32>(input);
      input += 4;
    }
    if (offset == 0 || offset > <u32>(output - to) || count > <u32>(outputEnd - output)) return false;
    if (offset >= 16) copyForward(output, output - offset, count);
    else repeat(output, offset, count);
    output += count;
  }
  return output == outputEnd;
}

/** Copies in steps of 16 bytes, writing up to 15 more: the target is at least 16 ahead of the source, or elsewhere. */
// @ts-ignore: decorator
@inline
function copyForward(to: usize, from: usize, count: u32): void {
  const end = to + count;
  do {
    v128.store(to, v128.load(from));
    to += 16;
    from += 16;
  } while (to < end);
}

/** Repeats the last `offset` bytes, fewer than 16 of them. */
// @ts-ignore: decorator
@inline
function repeat(to: usize, offset: u32, count: u32): void {
  const end = to + count;
  let from = to - offset;
  if (offset >= 8) {
    do {
      store<u64>(to, load<u64>(from));
      to += 8;
      from += 8;
    } while (to < end);
    return;
  }
  while (to < end) store<u8>(to++, load<u8>(from++));
}
