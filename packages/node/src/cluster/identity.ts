import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, fromSystemError, LazytreeError } from '@lazytree/core';
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { PrivateKey } from '@libp2p/interface';
import { writeDurably } from '../state-file.js';

/** The key that is this machine's peer id: made once, and its owner's alone to read. */
export async function openIdentity(directory: string): Promise<PrivateKey> {
  const file = join(directory, 'identity');
  try {
    return privateKeyFromProtobuf(await readFile(file));
  } catch (error) {
    if (errnoOf(error) === undefined) {
      throw new LazytreeError('CORRUPT', `${file} is not the key that was written there`, {
        cause: error,
        hint: 'bring it back from a backup, or remove it: then this machine is another peer',
      });
    }
    if (errnoOf(error) !== 'ENOENT') throw fromSystemError(error, `reading ${file}`);
  }
  const key = await generateKeyPair('Ed25519');
  await writeDurably(file, privateKeyToProtobuf(key));
  return key;
}
