import { oneLine } from './one-line.js';

/** Joins small pieces so that a long listing is not a system call a line. */
export async function* batched(
  lines: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>,
): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const line of lines) {
    const part = typeof line === 'string' ? Buffer.from(line) : line;
    parts.push(part);
    bytes += part.length;
    if (bytes < 65536) continue;
    yield Buffer.concat(parts);
    parts = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(parts);
}

/** Columns of equal width, two spaces apart; the last is not padded. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return rows
    .map(
      (row) => `${row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]))).join('  ')}\n`,
    )
    .join('');
}

/** A path for people to read: on a terminal, with what would drive it escaped; otherwise the very bytes. */
export async function pathBytes({ isRead }: { isRead: boolean }, path: string): Promise<Uint8Array | string> {
  if (isRead) return oneLine(path);
  if (path.isWellFormed()) return path;
  return (await import('@lazytree/core/names')).nameToBytes(path);
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function formatBytes(bytes: number): string {
  let unit = 0;
  let value = bytes;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${UNITS[unit]}`;
}
