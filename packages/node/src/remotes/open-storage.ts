import type { CredentialEnv } from './credential-variables.js';
import { azureAccess } from './credentials.js';
import type { RemoteConfig } from './remotes-file.js';
import { openDirectoryStorage } from './storage/directory.js';
import type { Storage } from './storage/storage.js';
import { parseStorageUrl } from './storage/storage-url.js';

const loadAzure = () => import('./storage/azure.js');

/** Loads what opening it takes. */
export async function prepareStorage({ url }: Pick<RemoteConfig, 'url'>): Promise<void> {
  if (parseStorageUrl(url).kind !== 'directory') await loadAzure();
}

export interface OpenStorageOptions {
  /** What the caller has; in a daemon from its CredentialMemory. */
  env: CredentialEnv;
}

/**
 * Opens what a remote is stored in. Nothing is asked over a network yet.
 *
 * @throws LazytreeError USAGE; REFUSED or NOT_FOUND for its credentials
 */
export async function openStorage(
  { url, endpoint, credentialsFile }: Pick<RemoteConfig, 'url' | 'endpoint' | 'credentialsFile'>,
  { env }: OpenStorageOptions,
): Promise<Storage> {
  const place = parseStorageUrl(url);
  if (place.kind === 'directory') return openDirectoryStorage(place.path, { url });
  const { account, container, prefix } = place;
  const access = await azureAccess({ account, endpoint, credentialsFile, env });
  const { openAzureStorage } = await loadAzure();
  return openAzureStorage({ access, container, prefix });
}
