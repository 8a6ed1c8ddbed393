import { randomBytes } from 'node:crypto';
import { defaultCrypto } from '@chainsafe/libp2p-noise/crypto';
import { Uint8ArrayList } from 'uint8arraylist';
import { describe, expect, test } from 'vitest';
import { createNoiseCrypto } from '../../src/cluster/noise-crypto.js';

const ours = createNoiseCrypto();
const KEY = randomBytes(32);
const NONCE = randomBytes(12);
const DATA = randomBytes(32);

type Bytes = ReturnType<typeof ours.chaCha20Poly1305Encrypt>;
type Crypto = Pick<typeof ours, 'chaCha20Poly1305Encrypt' | 'chaCha20Poly1305Decrypt'>;

/** As noise has it: a list of parts. Its class is of another version, and the same to all who look. */
function listed(bytes: Uint8Array): Bytes {
  const middle = bytes.length >> 1;
  return new Uint8ArrayList(bytes.subarray(0, middle), bytes.subarray(middle)) as unknown as Bytes;
}

const copyOf = (bytes: Bytes) => Buffer.from(bytes.subarray());
const sealed = (by: Crypto, bytes: Bytes) => copyOf(by.chaCha20Poly1305Encrypt(bytes, NONCE, DATA, KEY));
const opened = (by: Crypto, bytes: Bytes) => copyOf(by.chaCha20Poly1305Decrypt(bytes, NONCE, DATA, KEY));

describe('the cryptography of noise', () => {
  test.each([0, 1, 1199, 1200, 1201, 5000, 65_519])('is that of the library, for %i bytes', (length) => {
    const plain = randomBytes(length);
    const secret = sealed(defaultCrypto, plain);
    expect(sealed(ours, listed(plain))).toEqual(secret);
    expect(sealed(ours, plain)).toEqual(secret);
    expect(opened(ours, listed(secret))).toEqual(plain);
    expect(opened(ours, Buffer.from(secret))).toEqual(plain);
  });

  test.each([100, 5000])('takes nothing that was changed, of %i bytes', (length) => {
    const secret = sealed(ours, listed(randomBytes(length)));
    for (const at of [0, length >> 1, length + 15]) {
      const changed = Buffer.from(secret);
      changed[at] ^= 1;
      expect(() => opened(ours, listed(changed))).toThrow();
    }
    expect(() => ours.chaCha20Poly1305Decrypt(listed(secret), NONCE, DATA, randomBytes(32))).toThrow();
  });
});
