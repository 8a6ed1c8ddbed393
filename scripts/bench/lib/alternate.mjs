// Times of several contestants, taken alternately: what else the machine does meanwhile, and what it has just done,
// falls on all of them.
import { tmpdir } from 'node:os';
import { run, timed } from './command.mjs';
import { median } from './numbers.mjs';

/** The name under which every table of times knows our own. */
export const OURS = 'lazytree';

/**
 * One thing to do once, with everything that it needs already in place.
 * @typedef {object} Entry
 * @property {string} name
 * @property {import('./command.mjs').Command} command
 * @property {() => void} [before] what has to be done immediately before, not timed
 * @property {(stdout: string) => void} [verify] throws when the result is not right
 */

/** @typedef {Map<string, number[]>} Times seconds by name of the contestant, one for each round */

/**
 * @param {number} rounds
 * @param {(round: number) => Entry[]} enter makes what a round needs, in directories of its own
 * @returns {Times}
 */
export function alternate(rounds, enter) {
  /** @type {Times} */
  const times = new Map();
  for (let round = 0; round < rounds; round++) playRound(times, enter(round), round);
  return times;
}

/**
 * Every entry once, in an order that is turned round from round to round; results are verified when all are done.
 * @param {Times} times gets the results
 * @param {Entry[]} entries
 * @param {number} round
 */
export function playRound(times, entries, round) {
  const order = round % 2 === 0 ? entries : [...entries].reverse();
  const done = order.map((entry) => {
    entry.before?.();
    settle();
    return { entry, ...timed(entry.command) };
  });
  for (const { entry, seconds, stdout } of done) {
    entry.verify?.(stdout);
    times.set(entry.name, [...(times.get(entry.name) ?? []), seconds]);
  }
}

/** Nobody pays for writing out what the one before has written. */
function settle() {
  run({ argv: ['sync', '--file-system', tmpdir()] });
}

/**
 * @param {Times} times
 * @param {string} name
 */
export function medianTime(times, name) {
  return median(times.get(name) ?? []);
}

/**
 * The median of the rounds' ratios, not the ratio of the medians: within a round both had the same conditions.
 * @param {Times} times
 * @param {string} ours
 * @param {string} peer
 */
export function medianRatio(times, ours, peer) {
  const theirs = times.get(peer);
  return theirs && median((times.get(ours) ?? []).map((seconds, round) => seconds / theirs[round]));
}
