// Puts a report where docs/benchmarks.md has its markers.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const DOCUMENT = fileURLToPath(new URL('../../../docs/benchmarks.md', import.meta.url));
const START = '<!-- bench:start -->';
const END = '<!-- bench:end -->';

/** @param {string} report */
export function writeDocs(report) {
  const text = readFileSync(DOCUMENT, 'utf8');
  const start = text.lastIndexOf(`\n${START}\n`);
  const end = text.indexOf(`\n${END}\n`, start);
  if (start < 0 || end < 0) throw new Error(`docs/benchmarks.md has no lines ${START} and ${END}`);
  writeFileSync(DOCUMENT, `${text.slice(0, start + 1)}${START}\n\n${report}\n${text.slice(end + 1)}`);
}
