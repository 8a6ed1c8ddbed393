import { LazytreeError } from '@lazytree/core';

/**
 * Which automatic snapshots are kept: the `last` ones, and the newest of each of the last so many hours, days and
 * weeks that have any (as restic's `forget --keep-…`).
 */
export interface KeepPolicy {
  last: number;
  hourly: number;
  daily: number;
  weekly: number;
}

export const DEFAULT_KEEP: KeepPolicy = { last: 8, hourly: 24, daily: 7, weekly: 8 };

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** Weeks begin on Mondays; the epoch was a Thursday. */
const MONDAY = 4 * DAY;
const RULES: [rule: Exclude<keyof KeepPolicy, 'last'>, period: (time: number) => number][] = [
  ['hourly', (time) => Math.floor(time / HOUR)],
  ['daily', (time) => Math.floor(time / DAY)],
  ['weekly', (time) => Math.floor((time - MONDAY) / (7 * DAY))],
];

/**
 * @param times of the snapshots, in ms since the epoch (UTC), newest first
 * @returns whether each is kept
 */
export function selectKept(times: readonly number[], policy: KeepPolicy): boolean[] {
  const kept = times.map((_, i) => i < policy.last);
  for (const [rule, period] of RULES) {
    const seen = new Set<number>();
    times.forEach((time, i) => {
      const bucket = period(time);
      if (seen.has(bucket) || seen.size >= policy[rule]) return;
      seen.add(bucket);
      kept[i] = true;
    });
  }
  return kept;
}

/** Parses `last=8,hourly=24,daily=7,weekly=8`; what is left out is as in the default. @throws LazytreeError USAGE */
export function parseKeep(text: string): KeepPolicy {
  const policy = { ...DEFAULT_KEEP };
  for (const part of text.split(',')) {
    const [, rule, count] = /^(last|hourly|daily|weekly)=(\d{1,6})$/.exec(part.trim()) ?? [];
    if (!rule) {
      throw new LazytreeError('USAGE', `'${part}' does not say what to keep`, {
        hint: 'write it like last=8,hourly=24,daily=7,weekly=8',
      });
    }
    policy[rule as keyof KeepPolicy] = Number(count);
  }
  return policy;
}

const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: HOUR, d: DAY };

/** Parses `30s`, `5m`, `2h` or `1d`, and returns milliseconds. @throws LazytreeError USAGE */
export function parseInterval(text: string): number {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const interval = Number(count) * UNITS[unit];
  // Node's timers take 31 bits.
  if (interval >= 1000 && interval < 2 ** 31) return interval;
  throw new LazytreeError('USAGE', `'${text}' is no interval`, {
    hint: 'write it like 30s, 5m or 1h, up to 24d',
  });
}
