/** What a peer may ask of another at most. docs/exchange.md has them too. */

export const EXCHANGE = '/lazytree/exchange/1';
/** Bytes of a request: as many links as a request may have, or an announcement. */
export const REQUEST_BYTES = 1 << 20;
/** Bytes of an answer's message: records up to a batch, or one record of the largest block. */
export const ANSWER_BYTES = 17 << 20;
export const LINKS = 8192;
/** Roots of which an asker says that it has them. */
export const HAVE_ROOTS = 64;
export const REFS = 1000;
/** Streams of one peer. */
export const STREAMS = 32;
/** Requests of one peer in a second, and after a pause at once. */
export const REQUESTS_PER_SECOND = 2000;
export const REQUEST_BURST = 4000;
/** A peer that is asked and sends nothing for so long has failed. */
export const SILENT_MS = 15_000;
