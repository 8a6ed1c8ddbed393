import { hostname, userInfo } from 'node:os';

/** A user and a machine, for people at other machines. */
export function whoIsHere(): string {
  return `${user()}@${hostname()}`;
}

function user(): string {
  try {
    return userInfo().username;
  } catch {
    // Of a user without an entry the number is all there is.
    return String(process.getuid?.() ?? 'somebody');
  }
}
