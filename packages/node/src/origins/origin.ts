import type { OriginPin } from './driver.js';

/** A reference, and who knows it. */
export interface Origin extends OriginPin {
  driver: string;
}

/** `driver:reference`, for people, and as it is recorded. */
export function formatOrigin({ driver, reference }: Pick<Origin, 'driver' | 'reference'>): string {
  return `${driver}:${reference}`;
}
