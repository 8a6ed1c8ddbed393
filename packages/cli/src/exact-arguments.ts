import { readFileSync } from 'node:fs';

/**
 * Arguments as the shell passed them. Node decodes them as UTF-8 and loses what is not; the kernel still has the
 * bytes (proc(5), /proc/pid/cmdline), and they are decoded as names of files are.
 */
export async function exactArguments(argv: string[]): Promise<string[]> {
  if (!argv.some((argument) => argument.includes('\ufffd'))) return argv;
  let bytes: Buffer;
  try {
    bytes = readFileSync('/proc/self/cmdline');
  } catch {
    // No /proc here: what Node made of the arguments is the best there is.
    return argv;
  }
  const { nameFromBytes } = await import('@lazytree/core/names');
  const all: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0, at);
    all.push(nameFromBytes(bytes.subarray(at, end < 0 ? bytes.length : end)));
    at = end < 0 ? bytes.length : end + 1;
  }
  return all.slice(-argv.length);
}
