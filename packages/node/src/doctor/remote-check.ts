import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { fromSystemError } from '@lazytree/core';
import type { CredentialEnv } from '../remotes/credential-variables.js';
import { azureAccess } from '../remotes/credentials.js';
import type { RemoteConfig } from '../remotes/remotes-file.js';
import { parseStorageUrl } from '../remotes/storage/storage-url.js';
import type { Check } from './check.js';

/**
 * Whether a remote's directory is there, or what opens its account is. Nothing is asked over a network: that is what
 * `lazytree remote validate` does.
 */
export async function checkRemote(
  { name, url, endpoint, credentialsFile }: RemoteConfig,
  env: CredentialEnv,
): Promise<Omit<Check, 'name'>> {
  const place = parseStorageUrl(url);
  if (place.kind === 'directory') {
    try {
      if (!(await stat(place.path)).isDirectory()) throw new Error(`'${place.path}' is not a directory`);
      await access(place.path, constants.R_OK | constants.W_OK | constants.X_OK);
    } catch (error) {
      throw fromSystemError(error, `'${place.path}'`);
    }
    return { status: 'ok', detail: `${place.path} can be read and written to` };
  }
  const { via, credential } = await azureAccess({ account: place.account, endpoint, credentialsFile, env });
  if (credential.kind === 'identity' && via === 'the default Azure credential') {
    return {
      status: 'unused',
      detail: `no key and no token is set for ${url}; ${via} is asked when it is used`,
      hint: `try it with \`lazytree remote validate ${name}\``,
    };
  }
  return { status: 'ok', detail: `${url}: ${via}` };
}
