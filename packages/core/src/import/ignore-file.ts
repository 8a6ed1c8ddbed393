/** Holds the rules of its directory and of all below; see ignore.ts. */
export const IGNORE_FILE = '.lazytreeignore';
