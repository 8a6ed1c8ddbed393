/** Characters of a Link: a codec and 32 digest bytes. Here, where it costs a thread that needs no digests nothing. */
export const LINK_LENGTH = 33;
