/** @param {readonly number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** @typedef {'s' | 'ms' | 'bytes' | 'MB/s' | '%' | 'x' | 'requests'} Unit */
/** @typedef {{ value: number, unit: Unit }} Quantity */

/**
 * @param {number} value
 * @param {Unit} unit seconds may be shown as milliseconds
 * @returns {Quantity}
 */
export function quantity(value, unit) {
  return unit === 'ms' ? { value: value * 1000, unit } : { value, unit };
}

/** @param {Quantity} quantity */
export function formatQuantity({ value, unit }) {
  switch (unit) {
    case 's':
      return value < 0.1 ? `${(value * 1000).toFixed(0)} ms` : `${value.toFixed(2)} s`;
    case 'ms':
      return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
    case 'bytes':
      return value < 1e6 ? `${(value / 1e3).toFixed(1)} KB` : `${(value / 1e6).toFixed(1)} MB`;
    case 'MB/s':
      return `${value.toFixed(0)} MB/s`;
    case '%':
      return `${value.toFixed(value < 10 ? 2 : 1)} %`;
    case 'requests':
      return String(value);
    case 'x':
      return value.toFixed(2);
  }
}
