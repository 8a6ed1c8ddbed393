import { afterwards } from '../../../core/test/helpers.ts';
import { type GitServer, startGitBackend } from './git-backend.ts';

/** A server of the repositories in a directory, until the tests of this file are done. */
export async function startGitServer(root: string): Promise<GitServer> {
  const server = await startGitBackend(root);
  afterwards(() => server.close());
  return server;
}
