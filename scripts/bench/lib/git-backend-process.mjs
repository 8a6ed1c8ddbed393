// git-backend-process.mjs ROOT PORT: serves the repositories below ROOT by git's http-backend, until it is killed.
import { startGitBackend } from '../../../packages/node/test/origins/git-backend.ts';

const [, , root, port] = process.argv;
await startGitBackend(root, Number(port));
