import type { OriginContext } from '../driver.js';
import type { CommitListing } from './list-commit.js';

export interface WriteCommitOptions {
  url: string;
  commit: string;
  context: OriginContext;
}

export interface WriteListingOptions extends WriteCommitOptions {
  listing: CommitListing;
  /** Gets what a person should know, a line each. */
  notes: string[];
}
