/** How much of what a provider is asked for in one transfer it has, lately. */
export interface HitRate {
  answered(had: number, missing: number): void;
  /** From nearly nothing to 1; 1 until something is known. */
  readonly share: number;
}

/** Of an answer in the share, the newest counting most. */
const SMOOTHING = 0.5;
/** Who has had nothing yet may have what comes next. */
const LEAST = 1 / 64;

export function createHitRate(): HitRate {
  let share = 1;
  return {
    answered(had, missing) {
      if (had + missing === 0) return;
      share += SMOOTHING * (had / (had + missing) - share);
    },
    get share() {
      return Math.max(share, LEAST);
    },
  };
}
