/** How long the fetch chain waits for what, in milliseconds: docs/fetch-chain.md says why. */
export interface Timing {
  /** A demanded request without an answer is hedged after this, or after several times what the provider usually takes. */
  hedge: number;
  /** A bulk request that brings nothing for so long goes to others, if there are any. */
  stall: number;
  /** A request that brings nothing for so long has failed. */
  patience: number;
  /** The same for a provider in quarantine, asked because nobody else has an answer. */
  quarantinedPatience: number;
  /** The first quarantine of a provider; each that follows is twice as long as the one before. */
  quarantine: number;
  longestQuarantine: number;
}

export const TIMING: Timing = {
  hedge: 200,
  stall: 1000,
  patience: 20_000,
  quarantinedPatience: 5000,
  quarantine: 1000,
  longestQuarantine: 60_000,
};
