const RECEIVING = /Receiving objects:[^,\r\n]*(?:\([^)]*\))?, ([0-9.]+) (bytes|KiB|MiB|GiB|TiB)/g;
const UNITS: Readonly<Record<string, number>> = {
  bytes: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Reads what `git fetch --progress` says, and calls `received` with the bytes that have come. */
export function fetchProgress(received: (bytes: number) => void): (said: string) => void {
  return (said) => {
    const last = [...said.matchAll(RECEIVING)].at(-1);
    if (last) received(Math.round(Number(last[1]) * UNITS[last[2]]));
  };
}
