export { type CredentialEnv, credentialEnv } from './credential-variables.js';
export { azureAccess } from './credentials.js';
export { openStorage } from './open-storage.js';
export {
  addRemote,
  checkRemoteName,
  findRemote,
  listRemotes,
  type Remote,
  removeRemote,
} from './remotes-file.js';
export type { Storage } from './storage/storage.js';
export { parseEndpoint, parseStorageUrl, refuseSecret } from './storage/storage-url.js';
