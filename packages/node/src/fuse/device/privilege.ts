import { readFile } from 'node:fs/promises';

/** <linux/capability.h> */
const CAP_SYS_ADMIN = 21n;

let answer: Promise<boolean> | undefined;

/**
 * Whether this process may call mount(2). Root in a container mostly may not; who is root of a user namespace of its
 * own may, in there.
 */
export function mayMount(): Promise<boolean> {
  answer ??= readFile('/proc/self/status', 'latin1').then((status) => {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0';
    return (BigInt(`0x${effective}`) & (1n << CAP_SYS_ADMIN)) !== 0n;
  });
  return answer;
}
