/**
 * Whether a `.gitattributes` may make `git archive` write something else than what is in the repository. It errs on the
 * side of yes. What needs a filter program is no such thing: there is none without a user's configuration.
 */
export function mayChangeFiles(attributes: Buffer): boolean {
  return /export-ignore|export-subst|\beol\s*=\s*crlf|\bident\b|\bworking-tree-encoding\b|\bcrlf\b/.test(
    attributes.toString('latin1'),
  );
}
