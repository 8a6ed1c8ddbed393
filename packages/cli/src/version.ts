import { createRequire } from 'node:module';

/** By the package's own name, which leads to the same file from the sources' build and from the bundle. */
export const VERSION: string = createRequire(import.meta.url)('lazytree/package.json').version;
