import type { Options } from './command.js';

/** What the stat cache of an imported directory is for: other options give other trees. */
export function importUse({ preserve, ignore }: Options): string {
  return `import${preserve ? ' preserve' : ''}${ignore ? '' : ' all'}`;
}

/** What the stat cache of an exported directory is for. */
export const EXPORT_USE = 'export';
