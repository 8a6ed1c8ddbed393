// The result as Markdown.
import { formatQuantity } from './numbers.mjs';

/**
 * @typedef {import('./row.mjs').Row} Row
 * @typedef {import('./machine.mjs').Machine} Machine
 */

const COLUMNS = ['Item', 'lazytree', 'Peers (lazytree / peer)', 'Ratio', 'Threshold', 'Result'];

/**
 * @param {Machine} machine
 * @param {Row[]} rows
 */
export function formatReport(machine, rows) {
  const lines = [header(machine), '', tableLine(COLUMNS), tableLine(COLUMNS.map(() => '---'))];
  for (const row of rows) lines.push(tableLine(cells(row)));
  const notes = [...new Set(rows.map(({ note }) => note).filter((note) => note !== undefined))];
  if (machine.peers.missing.length > 0)
    notes.push(`not installed here and left out: ${machine.peers.missing.join(', ')}`);
  if (notes.length > 0) lines.push('', ...notes.map((note) => `- ${note}`));
  return `${lines.join('\n')}\n`;
}

/** @param {Machine} machine */
function header({ date, cores, processor, memoryGiB, kernel, node, rounds, peers }) {
  const versions = Object.entries(peers.versions).map(([name, version]) => `${name} ${version}`);
  const machine = `${date}, ${cores} cores (${processor}), ${memoryGiB} GiB, ${kernel}, Node.js ${node}`;
  return `${machine}; rounds: ${rounds}; ${versions.join(', ')}.`;
}

/** @param {Row} row */
function cells({ item, ours, peers, ratio, threshold, ok, failure }) {
  return [
    item,
    ours ? formatQuantity(ours) : '–',
    peers.map(formatPeer).join(', '),
    ratio === undefined ? '' : ratio.toFixed(2),
    threshold ? formatThreshold(threshold) : '',
    failure === undefined ? verdict(ok, threshold) : 'FAILED',
  ];
}

/** @param {Row['peers'][number]} peer */
function formatPeer({ name, quantity, ratio }) {
  return `${name} ${formatQuantity(quantity)}${ratio === undefined ? '' : ` (${ratio.toFixed(2)})`}`;
}

/** @param {import('./row.mjs').Threshold} threshold */
function formatThreshold({ max, min, unit, peer }) {
  const sign = max === undefined ? '≥' : '≤';
  const value = formatQuantity({ value: max ?? min ?? 0, unit });
  return `${sign} ${value}${peer === undefined ? '' : ` × ${peer}`}`;
}

/**
 * @param {boolean | undefined} ok
 * @param {import('./row.mjs').Threshold | undefined} threshold
 */
function verdict(ok, threshold) {
  if (!threshold) return '';
  if (ok === undefined) return 'peer missing';
  return ok ? 'ok' : 'MISSED';
}

/** @param {string[]} texts */
function tableLine(texts) {
  return `| ${texts.join(' | ')} |`;
}
