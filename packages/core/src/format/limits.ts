/** Limits of format v1. An encoder never exceeds them; a decoder refuses what does. */

/** Bytes of any block, node or chunk. */
export const MAX_BLOCK_BYTES = 1 << 20;
/** Bytes of one name (Linux NAME_MAX). */
export const MAX_NAME_BYTES = 255;
/** Bytes of a symlink target (Linux PATH_MAX less its NUL). */
export const MAX_TARGET_BYTES = 4095;
/** Bytes of an origin's driver, reference or integrity text. */
export const MAX_ORIGIN_TEXT_BYTES = 8192;
/** Levels of index nodes above the leaves of one file or one directory. */
export const MAX_INDEX_LEVELS = 8;
/** Nested directories, from the root. */
export const MAX_TREE_DEPTH = 2048;
/** Bytes of a snapshot's message or source. */
export const MAX_SNAPSHOT_TEXT_BYTES = 65536;
/** Parents of a snapshot. */
export const MAX_SNAPSHOT_PARENTS = 64;
