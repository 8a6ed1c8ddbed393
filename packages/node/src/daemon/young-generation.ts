import { setFlagsFromString } from 'node:v8';

/**
 * Keeps the young generation of this process small. What comes and goes over a network are buffers outside of the heap,
 * which V8 counts: with 64 MB of them that no collection has looked at it marks the whole heap, again and again in a
 * transfer. A small young generation is collected, with the buffers that nobody has any more,
 * long before there are so many.
 */
export function keepYoungGenerationSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
}
