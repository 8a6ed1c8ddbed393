import type { Link, LocalStore } from '@lazytree/core';
import type { Provider } from '../fetch/provider.js';
import type { MountLog } from '../mounts/mount-log.js';
import type { AccessOrders } from '../prefetch/access-order.js';
import type { CredentialMemory } from './credential-memory.js';
import type { CredentialEnv } from './credential-variables.js';
import type { TreeSource } from './push/whole-directories.js';
import type { Remote } from './remote.js';
import type { StorageTraffic } from './storage/storage.js';

/** What is asked of the remotes of a home to find trees there. */
export interface RemoteNames {
  /** Their names, in the order in which they were added. */
  list(): readonly string[];
  /**
   * The root that a name stands for at a remote; without one, at the first of them that has the name. There, one that
   * cannot be asked ends the search: the same name further on may stand for something else.
   *
   * @throws LazytreeError NOT_FOUND when everyone was asked and none has it, NETWORK; each names all who were asked
   */
  findRef(
    name: string,
    remote: string | undefined,
    signal: AbortSignal,
  ): Promise<{ root: Link; remote: string }>;
  /**
   * Makes the remotes part of the chain; cheap when they are already. One that cannot be opened is a part of it, too, and
   * fails what it is asked for: what it may have is not missing.
   *
   * @throws LazytreeError when that cannot be done for any of them
   */
  attach(): Promise<void>;
}

/** The remotes of a home, for as long as it is open. */
export interface Remotes extends RemoteNames {
  /**
   * One of them, to be used until the next call for it.
   *
   * @param env the caller's variables; without it, those that it was last opened with
   * @throws LazytreeError NOT_FOUND, REFUSED
   */
  open(name: string, env?: CredentialEnv): Promise<Remote>;
  /** Loads what opening them takes: before it is asked for, and before other files have taken the place of the code. */
  prepare(): Promise<void>;
  /** What has crossed between this process and one of them since it was opened; undefined when it has not been. */
  traffic(name: string): Promise<StorageTraffic | undefined>;
  /** Takes them out of the chain. */
  close(): Promise<void>;
}

/** What remotes are opened with. */
export interface RemoteParts {
  /** The home's directory. */
  home: string;
  store: LocalStore;
  /** Where blocks come from that the store does not have. */
  source: TreeSource;
  credentials: CredentialMemory;
  log: MountLog;
  /** Default: as they are in the home. */
  orders?: AccessOrders;
  /** Adds a provider to the chain, until the function returned is called. */
  join(provider: Provider): () => void;
}

export type OpenRemotes = (parts: RemoteParts) => Promise<Remotes>;
