import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

interface Koffi {
  load(library: null): { func(declaration: string): unknown };
  errno(): number;
}

let koffi: Koffi | undefined;

/** A function of the C library, for what node:fs does not offer. */
export function cFunction<F>(declaration: string): F {
  koffi ??= createRequire(import.meta.url)('koffi') as Koffi;
  return koffi.load(null).func(declaration) as F;
}

/** The name of what went wrong in the last call of such a function, as in `ENOENT`. */
export function lastError(): string {
  return getSystemErrorName(-(koffi as Koffi).errno());
}

/** A path or a name as C wants it. */
export function cString(text: string | Buffer): Buffer {
  return Buffer.concat([Buffer.from(text as string), Buffer.of(0)]);
}
