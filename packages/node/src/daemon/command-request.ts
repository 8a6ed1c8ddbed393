import * as z from 'zod/mini';
import { ORIGIN_VARIABLE } from '../origins/origin-variables.js';
import { CREDENTIAL_VARIABLES } from '../remotes/credential-variables.js';
import type { CommandRequest } from './protocol.js';

const VARIABLE = new RegExp(
  `^(?:LAZYTREE_[A-Z0-9_]+|${CREDENTIAL_VARIABLES.join('|')})$|${ORIGIN_VARIABLE.source}`,
);

const schema = z.object({
  argv: z.array(z.string()),
  cwd: z.optional(z.string().check(z.startsWith('/'))),
  umask: z.optional(z.int().check(z.gte(0), z.lte(0o777))),
  terminal: z._default(
    z.object({ stdout: z._default(z.boolean(), false), progress: z._default(z.boolean(), false) }),
    { stdout: false, progress: false },
  ),
  env: z._default(z.record(z.string().check(z.regex(VARIABLE)), z.string()), {}),
});

/** @throws Error with one line that says what is wrong */
export function parseCommandRequest(text: string): CommandRequest {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Error('the body is not JSON');
  }
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`the body is no command: ${issue.path.join('.') || 'it'}: ${issue.message}`);
}
