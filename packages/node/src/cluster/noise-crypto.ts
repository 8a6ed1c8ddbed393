import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import type { ICryptoInterface } from '@chainsafe/libp2p-noise';
import { defaultCrypto } from '@chainsafe/libp2p-noise/crypto';

const CIPHER = 'chacha20-poly1305';
const TAG_BYTES = 16;
/** Shorter messages are done sooner without a call into OpenSSL. */
const SHORT_BYTES = 1200;

/**
 * The cryptography of noise as it comes, but for long messages: the keys of a connection are made into key objects
 * once, and not for each message.
 */
export function createNoiseCrypto(): ICryptoInterface {
  const keys = new WeakMap<Uint8Array, KeyObject>();

  function keyOf(bytes: Uint8Array): KeyObject {
    const known = keys.get(bytes);
    if (known) return known;
    const key = createSecretKey(bytes);
    keys.set(bytes, key);
    return key;
  }

  return {
    ...defaultCrypto,
    chaCha20Poly1305Encrypt(plaintext, nonce, ad, k) {
      if (plaintext instanceof Uint8Array || plaintext.byteLength < SHORT_BYTES)
        return defaultCrypto.chaCha20Poly1305Encrypt(plaintext, nonce, ad, k);
      const cipher = createCipheriv(CIPHER, keyOf(k), nonce, { authTagLength: TAG_BYTES });
      cipher.setAAD(ad, { plaintextLength: plaintext.byteLength });
      const output = plaintext.sublist(0, 0);
      for (const part of plaintext) output.append(cipher.update(part));
      output.append(cipher.final(), cipher.getAuthTag());
      return output;
    },
    /** @throws Error when the tag is not that of what came */
    chaCha20Poly1305Decrypt(ciphertext, nonce, ad, k, dst) {
      if (ciphertext instanceof Uint8Array || ciphertext.byteLength < SHORT_BYTES)
        return defaultCrypto.chaCha20Poly1305Decrypt(ciphertext, nonce, ad, k, dst);
      const length = ciphertext.byteLength - TAG_BYTES;
      const decipher = createDecipheriv(CIPHER, keyOf(k), nonce, { authTagLength: TAG_BYTES });
      decipher.setAAD(ad, { plaintextLength: length });
      decipher.setAuthTag(ciphertext.subarray(length));
      const output = ciphertext.sublist(0, 0);
      for (const part of ciphertext.sublist(0, length)) output.append(decipher.update(part));
      output.append(decipher.final());
      return output;
    },
  };
}
