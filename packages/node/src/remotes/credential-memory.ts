import { type CredentialEnv, credentialEnv } from './credential-variables.js';

/** What each remote was last opened with, in a process that serves many callers: in memory alone. */
export interface CredentialMemory {
  /**
   * What to open a remote with: what this caller has; or, when it has nothing, what the last one had who opened it; or
   * what this process was started with. A caller's variables are taken together: no mixture of two callers'.
   *
   * @param env the caller's environment; without it, nobody's, as when a mount is read
   */
  envFor(remote: string, env?: Readonly<Record<string, string | undefined>>): CredentialEnv;
  forget(remote: string): void;
}

export function createCredentialMemory(
  own: Readonly<Record<string, string | undefined>> = process.env,
): CredentialMemory {
  const remembered = new Map<string, CredentialEnv>();
  return {
    envFor(remote, env = {}) {
      const given = credentialEnv(env);
      if (Object.keys(given).length > 0) {
        remembered.set(remote, given);
        return given;
      }
      return remembered.get(remote) ?? credentialEnv(own);
    },
    forget(remote) {
      remembered.delete(remote);
    },
  };
}
