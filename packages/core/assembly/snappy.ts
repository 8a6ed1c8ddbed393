/**
 * Snappy block encoder with whole-frame matching, compiled to WebAssembly by AssemblyScript.
 *
 * Format: https://github.com/google/snappy/blob/main/format_description.txt
 *
 * The output is an ordinary snappy block: any decoder reads it. The gain over stock encoders comes from
 * matching over the whole input instead of over separate 64 KiB fragments (the format has copies with
 * 4-byte offsets for that), from two hash tables instead of one, and from lazy, cost-aware match choice.
 *
 * Linear memory, lowest address first:
 *   LONG_TABLE   address of the newest position for each hash of 8 bytes (finds long, often distant matches)
 *   SHORT_TABLE  address of the newest position for each hash of 4 bytes (finds short, recent matches)
 *   FREE         the caller's: inputs and outputs, each with SLACK bytes behind it
 *
 * Loads may reach past the input and stores past the output, always by fewer than SLACK bytes: what is
 * loaded there never influences the result, and what is stored there is never part of it.
 *
 * Tables hold addresses, not offsets, and an unused slot holds that of the input: its first byte is a valid
 * candidate for every later position, so no search has to test for an empty slot.
 */

const MIN_LONG_BITS: u32 = 10;
const MAX_LONG_BITS: u32 = 17;
const MAX_SHORT_BITS: u32 = MAX_LONG_BITS - 1;

const LONG_TABLE: usize = 1 << 16;
const SHORT_TABLE: usize = LONG_TABLE + (4 << MAX_LONG_BITS);
const FREE: usize = SHORT_TABLE + (4 << MAX_SHORT_BITS);
const SLACK: usize = 128;

/** The quick effort has one table, of hashes of 4 bytes, in the place of LONG_TABLE. */
const MIN_QUICK_BITS: u32 = 8;
const MAX_QUICK_BITS: u32 = 15;

/** No match starts within this many bytes of the end: an 8-byte load there stays inside the input. */
const TAIL: usize = 12;

/** Input bytes handled by one call of a span function; see `encode`. */
const SPAN: usize = 1 << 14;

/** A match must save this many bytes; one byte more when it interrupts a literal run, which it splits. */
const MIN_GAIN: i32 = 1;

/** A match of this length is taken without looking for a better one at the next position. */
const GOOD_LENGTH: u32 = 32;

/** After 2^SKIP_SHIFT bytes without a match the search steps 2 bytes, after twice as many 3; to MAX_STEP, or without a limit in the quick effort. */
const SKIP_SHIFT: usize = 5;
const MAX_STEP: usize = 64;

const COPY_MAX: u32 = 64;
const COPY1_OFFSETS: u32 = 1 << 11;
const COPY2_OFFSETS: u32 = 1 << 16;

/** State of the call under way. */
let inputStart: usize = 0;
let inputEnd: usize = 0;
let matchLimit: usize = 0;
let literalStart: usize = 0;
let output: usize = 0;
let longShift: u64 = 0;
let shortShift: u32 = 0;
let quickShift: u32 = 0;

/** The match that the latest successful `findMatch` found. */
let foundAt: usize = 0;
let foundLength: u32 = 0;

/** Where the memory begins that this module leaves to its caller. */
export function freeAddress(): usize {
  return FREE;
}

/** Bytes that an input of `length` bytes takes, with what has to be free behind it. */
export function inputRoom(length: u32): u32 {
  return (length + <u32>SLACK + 15) & ~15;
}

/** Bytes that the largest output for an input of `length` bytes takes, with what has to be free behind it. */
export function outputRoom(length: u32): u32 {
  return (32 + length + length / 6 + <u32>SLACK + 15) & ~15;
}

/** Makes the memory reach to `end`; false if there is none. Growing detaches the buffer that it had. */
export function reserve(end: usize): bool {
  const missing = <i32>((end + 0xffff) >>> 16) - memory.size();
  return missing <= 0 || memory.grow(missing) >= 0;
}

/**
 * Encodes the `length` bytes at `input`, at most 2^24, to `to`; returns the size of the output. Both have the
 * room that `inputRoom` and `outputRoom` say. Effort is 0 (fast), 1 (balanced), 2 (high) or 3 (quick).
 *
 * The work is done in many short calls because V8 replaces baseline code by optimised code only between
 * calls: a single long call would run a whole frame in baseline code.
 */
export function encode(input: usize, length: u32, to: usize, effort: u32): u32 {
  inputStart = input;
  inputEnd = input + length;
  literalStart = input;
  output = putLength(to, length);
  if (length > <u32>TAIL) {
    matchLimit = inputEnd - TAIL;
    if (effort == 3) clearQuickTable(length);
    else clearTables(length, effort);
    encodeSpans(effort);
  }
  output = putLiteral(output, literalStart, <u32>(inputEnd - literalStart));
  return <u32>(output - to);
}

function encodeSpans(effort: u32): void {
  let at = inputStart + 1;
  while (at < matchLimit) {
    const to = min(at + SPAN, matchLimit);
    if (effort == 3) at = spanQuick(at, to);
    else if (effort == 0) at = spanFast(at, to);
    else if (effort == 1) at = spanBalanced(at, to);
    else at = spanHigh(at, to);
  }
}

/**
 * Table sizes follow the input, so that a small input does not pay for clearing large tables; below the
 * high effort both tables together stay within 384 KiB, since a table beyond the core's own cache costs
 * more time than it saves bytes.
 */
function clearTables(length: u32, effort: u32): void {
  const most = effort < 2 ? MAX_LONG_BITS - 1 : MAX_LONG_BITS;
  const longBits = <u32>min(max(29 - <i32>clz(length), <i32>MIN_LONG_BITS), <i32>most);
  const shortBits = longBits - 1;
  longShift = 64 - longBits;
  shortShift = 32 - shortBits;
  fillWithInput(LONG_TABLE, 4 << longBits);
  fillWithInput(SHORT_TABLE, 4 << shortBits);
}

function clearQuickTable(length: u32): void {
  const bits = <u32>min(max(31 - <i32>clz(length), <i32>MIN_QUICK_BITS), <i32>MAX_QUICK_BITS);
  quickShift = 32 - bits;
  fillWithInput(LONG_TABLE, 4 << bits);
}

function fillWithInput(table: usize, bytes: usize): void {
  const empty = i32x4.splat(<i32>inputStart);
  for (let at = table; at < table + bytes; at += 64) {
    v128.store(at, empty);
    v128.store(at, empty, 16);
    v128.store(at, empty, 32);
    v128.store(at, empty, 48);
  }
}

/**
 * Takes the newest place with the same 4 bytes, whatever is gained, and looks at fewer and fewer positions while
 * there is none. Some 4 % more output than `spanFast` in 70 % of its time.
 */
function spanQuick(at: usize, to: usize): usize {
  while (at < to) {
    const bytes = load<u64>(at);
    const slot = quickHash(<u32>bytes);
    const source = <usize>load<u32>(slot, LONG_TABLE);
    store<u32>(slot, <u32>at, LONG_TABLE);
    const difference = load<u64>(source) ^ bytes;
    // A copy from further back takes 5 bytes.
    const isShort = (difference & 0xff_ffff_ffff) != 0 && at - source >= COPY2_OFFSETS;
    if (<u32>difference != 0 || isShort) {
      at += 1 + ((at - literalStart) >> SKIP_SHIFT);
      continue;
    }
    const length = difference != 0 ? <u32>(ctz(difference) >> 3) : lengthAfter8(at, source);
    at = putMatch(at, source, length);
    if (at >= matchLimit) return at;
    const last = load<u64>(at - 2);
    store<u32>(quickHash(<u32>last), <u32>(at - 2), LONG_TABLE);
    store<u32>(quickHash(<u32>(last >> 8)), <u32>(at - 1), LONG_TABLE);
  }
  return at;
}

/** Greedy choice of the better of two candidates; four positions of each match enter the tables. */
function spanFast(at: usize, to: usize): usize {
  return encodeSpan(at, to, false, false);
}

/** Adds a look at the next position before a match is taken. */
function spanBalanced(at: usize, to: usize): usize {
  return encodeSpan(at, to, true, false);
}

/** Adds every position of each match to the tables. */
function spanHigh(at: usize, to: usize): usize {
  return encodeSpan(at, to, true, true);
}

/**
 * Encodes matches that start in [at, to) and returns where to go on, which may lie past `to`. Always
 * inlined with constant flags, so each caller gets a loop of its own without tests of the flags.
 */
// @ts-ignore: decorator
@inline
function encodeSpan(at: usize, to: usize, lazy: bool, dense: bool): usize {
  while (at < to) {
    let gain = findMatch(at);
    if (gain < MIN_GAIN + i32(at != literalStart)) {
      at += min<usize>(1 + ((at - literalStart) >> SKIP_SHIFT), MAX_STEP);
      continue;
    }
    let start = at;
    let source = foundAt;
    let length = foundLength;
    if (lazy) {
      while (length < GOOD_LENGTH && at + 1 < matchLimit) {
        at++;
        const nextGain = findMatch(at);
        if (nextGain <= gain) break;
        gain = nextGain;
        start = at;
        source = foundAt;
        length = foundLength;
      }
    }
    const end = putMatch(start, source, length);
    if (end < matchLimit) {
      if (dense) indexAll(at + 1, end);
      else indexSome(at, end);
    }
    at = end;
  }
  return at;
}

/**
 * Looks up and indexes position `at`. Returns the bytes that the better candidate saves, setting
 * `foundAt` and `foundLength`, or a negative number if there is no match of 4 bytes.
 */
// @ts-ignore: decorator
@inline
function findMatch(at: usize): i32 {
  const bytes = load<u64>(at);
  const longSlot = longHash(bytes);
  const shortSlot = shortHash(bytes);
  const distant = <usize>load<u32>(longSlot, LONG_TABLE);
  const recent = <usize>load<u32>(shortSlot, SHORT_TABLE);
  store<u32>(longSlot, <u32>at, LONG_TABLE);
  store<u32>(shortSlot, <u32>at, SHORT_TABLE);

  let gain: i32 = -1;
  const difference = load<u64>(recent) ^ bytes;
  if (<u32>difference == 0) {
    foundAt = recent;
    foundLength = difference != 0 ? <u32>(ctz(difference) >> 3) : lengthAfter8(at, recent);
    gain = gainOf(<u32>(at - recent), foundLength);
    if (recent == distant) return gain;
  }
  if (load<u64>(distant) == bytes) {
    const length = lengthAfter8(at, distant);
    const distantGain = gainOf(<u32>(at - distant), length);
    if (distantGain > gain) {
      foundAt = distant;
      foundLength = length;
      return distantGain;
    }
  }
  return gain;
}

/** Length of the match of `at` with the earlier `source`, of which the first 8 bytes are known to match. */
// @ts-ignore: decorator
@inline
function lengthAfter8(at: usize, source: usize): u32 {
  const distance = at - source;
  let end = at + 8;
  while (end < inputEnd) {
    const difference = load<u64>(end) ^ load<u64>(end - distance);
    if (difference != 0) {
      end += <usize>(ctz(difference) >> 3);
      break;
    }
    end += 8;
  }
  return <u32>(min(end, inputEnd) - at);
}

/** Bytes that a copy saves over literals, counting its first element only: further ones save more. */
// @ts-ignore: decorator
@inline
function gainOf(offset: u32, length: u32): i32 {
  const cost = offset >= COPY2_OFFSETS ? 5 : 3 - i32(offset < COPY1_OFFSETS && length < 12);
  return <i32>length - cost;
}

// @ts-ignore: decorator
@inline
function longHash(bytes: u64): usize {
  return <usize>((bytes * 0x9e3779b97f4a7c15) >> longShift) << 2;
}

// @ts-ignore: decorator
@inline
function shortHash(bytes: u64): usize {
  return <usize>((<u32>bytes * 0x9e3779b1) >> shortShift) << 2;
}

// @ts-ignore: decorator
@inline
function quickHash(bytes: u32): usize {
  return <usize>((bytes * 0x9e3779b1) >> quickShift) << 2;
}

// @ts-ignore: decorator
@inline
function index(at: usize): void {
  const bytes = load<u64>(at);
  store<u32>(longHash(bytes), <u32>at, LONG_TABLE);
  store<u32>(shortHash(bytes), <u32>at, SHORT_TABLE);
}

/** Indexes every position in [from, to). */
// @ts-ignore: decorator
@inline
function indexAll(from: usize, to: usize): void {
  for (let at = from; at < to; at++) index(at);
}

/** Indexes two positions after `at` and two before `end`; there are at least 3 bytes between them. */
// @ts-ignore: decorator
@inline
function indexSome(at: usize, end: usize): void {
  index(at + 1);
  index(at + 2);
  index(end - 2);
  index(end - 1);
}

/**
 * Writes the pending literals and the match, extended backwards over literals that also match. Returns
 * the end of the match, from where the next literals start: at least `start` + 4.
 */
// @ts-ignore: decorator
@inline
function putMatch(start: usize, source: usize, length: u32): usize {
  const offset = <u32>(start - source);
  const end = start + (length > COPY_MAX ? withoutCostlyRest(offset, length) : length);
  while (start > literalStart && source > inputStart && load<u8>(start - 1) == load<u8>(source - 1)) {
    start--;
    source--;
  }
  const literal = putLiteral(output, literalStart, <u32>(start - literalStart));
  output = putCopy(literal, offset, <u32>(end - start));
  literalStart = end;
  return end;
}

/**
 * Shortens a match whose last element, after those of 64 bytes, would be no shorter than its bytes. This
 * comes before the extension backwards: positions up to the one after the match's start are indexed, so
 * the search must go on behind them.
 */
function withoutCostlyRest(offset: u32, length: u32): u32 {
  const rest = length % COPY_MAX;
  return rest <= (offset < COPY2_OFFSETS ? <u32>3 : <u32>5) ? length - rest : length;
}

/** Writes the uncompressed length: little-endian base 128, the high bit marking that more follows. */
function putLength(to: usize, length: u32): usize {
  while (length >= 128) {
    store<u8>(to++, length | 128);
    length >>= 7;
  }
  store<u8>(to++, length);
  return to;
}

/** Writes `length` bytes as one literal element, or nothing if `length` is 0. */
// @ts-ignore: decorator
@inline
function putLiteral(to: usize, from: usize, length: u32): usize {
  if (length > 16) return putLongLiteral(to, from, length);
  store<u8>(to, (length - 1) << 2);
  v128.store(to, v128.load(from), 1);
  return to + length + usize(length != 0);
}

function putLongLiteral(to: usize, from: usize, length: u32): usize {
  const bytes = putLiteralTag(to, length - 1);
  if (length <= 64) {
    v128.store(bytes, v128.load(from));
    v128.store(bytes, v128.load(from, 16), 16);
    v128.store(bytes, v128.load(from, 32), 32);
    v128.store(bytes, v128.load(from, 48), 48);
  } else {
    memory.copy(bytes, from, length);
  }
  return bytes + length;
}

/** Tag of a literal, `code` being its length - 1: in the tag itself up to 59, else in 1 to 3 more bytes. */
function putLiteralTag(to: usize, code: u32): usize {
  if (code < 60) {
    store<u8>(to, code << 2);
    return to + 1;
  }
  const more: u32 = code < 1 << 8 ? 1 : code < 1 << 16 ? 2 : 3;
  store<u8>(to, (59 + more) << 2);
  store<u32>(to, code, 1);
  return to + 1 + more;
}

/** Writes a copy: elements of 64 bytes, then the rest, of which 4 to 11 bytes can take the 2-byte form. */
// @ts-ignore: decorator
@inline
function putCopy(to: usize, offset: u32, length: u32): usize {
  while (length > COPY_MAX) {
    to = offset < COPY2_OFFSETS ? putCopy2(to, offset, COPY_MAX) : putCopy4(to, offset, COPY_MAX);
    length -= COPY_MAX;
  }
  if (offset >= COPY2_OFFSETS) return putCopy4(to, offset, length);
  const short = u32(offset < COPY1_OFFSETS) & u32(length - 4 < 8);
  const copy1 = 1 | ((length - 4) << 2) | ((offset >> 8) << 5) | ((offset & 0xff) << 8);
  const copy2 = 2 | ((length - 1) << 2) | (offset << 8);
  store<u32>(to, short ? copy1 : copy2);
  return to + 3 - short;
}

// @ts-ignore: decorator
@inline
function putCopy2(to: usize, offset: u32, length: u32): usize {
  store<u32>(to, 2 | ((length - 1) << 2) | (offset << 8));
  return to + 3;
}

// @ts-ignore: decorator
@inline
function putCopy4(to: usize, offset: u32, length: u32): usize {
  store<u8>(to, 3 | ((length - 1) << 2));
  store<u32>(to, offset, 1);
  return to + 5;
}
