import { type ErrorCode, LazytreeError } from '@lazytree/core';

export interface GitEnd {
  what: readonly string[];
  /** Its exit code, or the signal that has ended it. */
  code: number | NodeJS.Signals | null;
  said: string;
  where: string;
}

interface Meaning {
  said: RegExp;
  code: ErrorCode;
  hint: string;
}

/** In this order: what says more comes first. */
const MEANINGS: readonly Meaning[] = [
  {
    said: /dubious ownership/i,
    code: 'REFUSED',
    hint: 'the repository belongs to another user: `git config --global --add safe.directory PATH` trusts it',
  },
  {
    said: /host key verification failed/i,
    code: 'REFUSED',
    hint: 'connect to the host with ssh once, and check its key',
  },
  {
    said: /authentication failed|could not read (username|password)|terminal prompts disabled|permission denied|access denied|returned error: 40[13]|invalid (username|credentials)/i,
    code: 'REFUSED',
    hint: 'check the URL, and give git the credentials: a credential helper, or a key in the ssh agent',
  },
  {
    said: /transport '[^']*' not allowed|protocol .* is not (allowed|supported)|unable to find remote helper/i,
    code: 'REFUSED',
    hint: 'use a URL of https, http, ssh, git or file',
  },
  {
    said: /no space left on device|disk quota exceeded/i,
    code: 'NO_SPACE',
    hint: 'free some space and run the command again; what was stored before is intact',
  },
  {
    said: /not our ref|unadvertised object|couldn't find remote ref|did not send all necessary objects/i,
    code: 'NOT_FOUND',
    hint: 'check the commit; a branch that was rewritten no longer has what it had',
  },
  {
    said: /could ?n[o']t resolve|unable to look up|couldn't connect|failed to connect|unable to connect|connection (refused|timed out|reset|closed)|network is unreachable|no route to host|timed out|timeout|too slow|early eof|rpc failed|curl \d+|hung up|unexpected disconnect|ssl|tls|certificate|returned error: (429|5\d\d)|bytes of (body|length)|bad pack header|invalid index-pack output/i,
    code: 'NETWORK',
    hint: 'check the connection and the URL, and run the command again',
  },
  {
    said: /repository .* not found|not found|does not appear to be a git repository|does not exist|no such file or directory|not a git repository|invalid gitfile|returned error: 404/i,
    code: 'NOT_FOUND',
    hint: 'check the URL; a private repository may look as if there were none without credentials',
  },
];

/** What it means that git has failed, in one line without secrets. */
export function gitFailure({ what, code, said, where }: GitEnd): LazytreeError {
  const text = withoutSecrets(said);
  const meaning = MEANINGS.find((one) => one.said.test(text));
  const reason = reasonIn(text) ?? `git ended with ${code}`;
  const doing = VERBS[what.find((argument) => argument in VERBS) ?? ''] ?? 'read';
  return new LazytreeError(
    meaning?.code ?? 'FAILED',
    `git cannot ${doing} ${where}: ${reason}`,
    meaning && { hint: meaning.hint },
  );
}

const VERBS: Readonly<Record<string, string>> = {
  fetch: 'fetch from',
  'ls-remote': 'list',
  init: 'make a repository for',
};

/** Whoever says it, a URL's credentials are nobody's business. */
export function withoutSecrets(text: string): string {
  return text.replace(/(\w:\/\/)[^/\s'"@]*@/g, '$1');
}

/** The line that says it best: the first that is fatal, or an error, or else the last. */
function reasonIn(text: string): string | undefined {
  const lines = text
    .split(/[\r\n]+/)
    .map((line) => printable(line.replace(/^remote: /, '')).trim())
    .filter((line) => line !== '' && !/^(hint|warning):/.test(line));
  const line =
    lines.find((one) => one.startsWith('ERROR: ')) ??
    lines.find((one) => one.startsWith('fatal: ')) ??
    lines.find((one) => one.startsWith('error: ')) ??
    lines.at(-1);
  return line?.replace(/^(ERROR|fatal|error): /, '').slice(0, 300);
}

/** A server's words are not to be obeyed by a terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, ' ');
}
