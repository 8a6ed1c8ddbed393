// A row of the result: what was measured, what the peers did, and what had to be reached.
import { medianRatio, medianTime, OURS } from './alternate.mjs';
import { quantity } from './numbers.mjs';

/**
 * @typedef {import('./numbers.mjs').Quantity} Quantity
 *
 * @typedef {object} Row
 * @property {string} item
 * @property {Quantity} [ours] absent when the item failed
 * @property {{ name: string, quantity: Quantity, ratio?: number }[]} peers with our ratio to each
 * @property {number} [ratio] the one that the threshold is about
 * @property {Threshold} [threshold]
 * @property {boolean} [ok] absent without a threshold, and when its peer is not installed
 * @property {string} [note]
 * @property {unknown} [samples] every single measurement
 * @property {string} [failure] why nothing was measured
 *
 * @typedef {{ max?: number, min?: number, unit: import('./numbers.mjs').Unit, peer?: string }} Threshold
 * with a peer, a multiple of what the peer needs
 */

/**
 * @param {number | undefined} measured
 * @param {Threshold | undefined} threshold
 */
function judge(measured, threshold) {
  if (!threshold || measured === undefined) return undefined;
  return measured <= (threshold.max ?? Infinity) && measured >= (threshold.min ?? -Infinity);
}

/**
 * @param {string} item
 * @param {import('./alternate.mjs').Times} times
 * @param {{ peer?: string, max?: number, ours?: string }} [options] at most `max` times what `peer` needs
 * @returns {Row}
 */
export function timesRow(item, times, { peer, max, ours = OURS } = {}) {
  const ratio = peer === undefined ? undefined : medianRatio(times, ours, peer);
  /** @type {Threshold | undefined} */
  const threshold = peer === undefined || max === undefined ? undefined : { max, unit: 'x', peer };
  return {
    item,
    ours: quantity(medianTime(times, ours), 's'),
    peers: [...times.keys()]
      .filter((name) => name !== ours)
      .map((name) => ({
        name,
        quantity: quantity(medianTime(times, name), 's'),
        ratio: medianRatio(times, ours, name),
      })),
    ratio,
    threshold,
    ok: judge(ratio, threshold),
    samples: Object.fromEntries(times),
  };
}

/**
 * @param {import('./alternate.mjs').Times} times
 * @param {string[]} names
 */
export function without(times, ...names) {
  return new Map([...times].filter(([name]) => !names.includes(name)));
}

/**
 * @param {import('./alternate.mjs').Times} times
 * @param {string[]} names
 */
export function only(times, ...names) {
  return new Map([...times].filter(([name]) => names.includes(name)));
}

/**
 * A row whose threshold is about our own number.
 * @param {string} item
 * @param {Quantity} ours
 * @param {{ max?: number, min?: number, samples?: unknown, note?: string, peers?: Row['peers'] }} [options]
 * @returns {Row}
 */
export function valueRow(item, ours, { max, min, samples, note, peers = [] } = {}) {
  /** @type {Threshold | undefined} */
  const threshold = max === undefined && min === undefined ? undefined : { max, min, unit: ours.unit };
  return { item, ours, peers, threshold, ok: judge(ours.value, threshold), samples, note };
}

/**
 * @param {string} item
 * @param {number} bytes
 * @param {Map<string, number>} peers bytes by name
 * @param {{ peer: string, max: number }} limit at most `max` times what `peer` takes
 * @returns {Row}
 */
export function bytesRow(item, bytes, peers, { peer, max }) {
  const theirs = peers.get(peer);
  const ratio = theirs === undefined ? undefined : bytes / theirs;
  /** @type {Threshold} */
  const threshold = { max, unit: 'x', peer };
  return {
    item,
    ours: quantity(bytes, 'bytes'),
    peers: [...peers].map(([name, value]) => ({
      name,
      quantity: quantity(value, 'bytes'),
      ratio: bytes / value,
    })),
    ratio,
    threshold,
    ok: judge(ratio, threshold),
  };
}
