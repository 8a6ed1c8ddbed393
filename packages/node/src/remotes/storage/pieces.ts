export function totalLength(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}

/** The same bytes, without a copy, in lists of parts that have `size` bytes together, the last one fewer. */
export function* inPieces(parts: readonly Uint8Array[], size: number): Generator<Uint8Array[]> {
  let piece: Uint8Array[] = [];
  let length = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; ) {
      const cut = part.subarray(at, at + size - length);
      piece.push(cut);
      length += cut.length;
      at += cut.length;
      if (length < size) continue;
      yield piece;
      piece = [];
      length = 0;
    }
  }
  if (length > 0) yield piece;
}
