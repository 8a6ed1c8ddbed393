import { createHash } from 'node:crypto';
import { LazytreeError } from '@lazytree/core/errors';
import ssri from 'ssri';

/** Hashes bytes on their way, and tells whether they are what they have to be. */
export interface IntegrityCheck {
  update(bytes: Uint8Array): void;
  /** Begins anew. */
  reset(): void;
  /**
   * What the bytes were checked against, or their sha512 where there was nothing.
   *
   * @throws LazytreeError CORRUPT
   */
  finish(what: string): string;
}

/**
 * @param expected in the manner of SRI; the strongest of what it has is what counts
 * @throws LazytreeError CORRUPT for text that is none
 */
export function createIntegrityCheck(expected: string | undefined): IntegrityCheck {
  const known = expected === undefined ? undefined : parse(expected);
  let hash = createHash(known?.algorithm ?? 'sha512');
  return {
    update: (bytes) => void hash.update(bytes),
    reset() {
      hash = createHash(known?.algorithm ?? 'sha512');
    },
    finish(what) {
      const digest = hash.digest('base64');
      if (!known) return `sha512-${digest}`;
      if (known.digests.includes(digest)) return expected as string;
      throw new LazytreeError(
        'CORRUPT',
        `${what} is not what its integrity says: ${known.algorithm}-${digest} came`,
        {
          hint: 'the registry, a mirror or a proxy gave something else; nothing of it was stored',
        },
      );
    },
  };
}

function parse(expected: string): { algorithm: string; digests: string[] } {
  const parsed = ssri.parse(expected);
  const known = ['sha512', 'sha384', 'sha256', 'sha1'].filter((name) => parsed?.[name]);
  if (!parsed || known.length === 0) {
    throw new LazytreeError('CORRUPT', `'${expected.slice(0, 100)}' is no integrity that can be checked`, {
      hint: 'it has to be a digest such as sha512-…',
    });
  }
  const algorithm = known[0];
  return { algorithm, digests: (parsed[algorithm] ?? []).map(({ digest }) => digest) };
}
