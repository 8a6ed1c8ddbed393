/** A TREE on the command line that may be an origin: `driver:reference`, and after `//` a path in it. */
export function mayBeOrigin(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:/.test(text) && !text.startsWith('image:');
}

/** `://` of a URL, and what may be in a digest, are a part of the reference. */
const NO_SEPARATOR = /:\/\/|sha512-[A-Za-z0-9+/]{86}==|sha384-[A-Za-z0-9+/]{64}|sha256-[A-Za-z0-9+/]{43}=/g;

/**
 * Takes a path off an origin: `git:https://example.org/x.git#main//src/a.js` is `src/a.js` in what is before it. No
 * reference has `//` in it but for the ones of URLs, and those in a digest.
 */
export function splitOrigin(text: string): { origin: string; path: string } {
  const at = text.replace(NO_SEPARATOR, (found) => '_'.repeat(found.length)).indexOf('//');
  if (at < 0) return { origin: text, path: '' };
  return { origin: text.slice(0, at), path: text.slice(at).replace(/^\/+|\/+$/g, '') };
}
