export { createCredentialMemory } from './credential-memory.js';
export { type CredentialEnv, credentialEnv } from './credential-variables.js';
export { azureAccess } from './credentials.js';
export type { Remote } from './remote.js';
export type { ReadRef, RemoteRef, RemoteSnapshot } from './remote-ref.js';
export type { Remotes } from './remotes.js';
export {
  addRemote,
  checkRemoteName,
  findRemote,
  listRemotes,
  type RemoteConfig,
  removeRemote,
} from './remotes-file.js';
export type { Storage, StorageTraffic } from './storage/storage.js';
export { parseEndpoint, parseStorageUrl, refuseSecret } from './storage/storage-url.js';
