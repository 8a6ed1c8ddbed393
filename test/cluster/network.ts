import { afterwards, whyNotMount } from '../helpers.ts';
import { enterLan, type Lan, type Machine, whyNoLan } from './lan.ts';

export { HERE, type Machine } from './lan.ts';

/** Whether tests that need a LAN have to be skipped here; if so, says why on the terminal. */
export function unlessNetworked(what: string): boolean {
  const reason = whyNotMount() ?? whyNoLan();
  if (reason) console.warn(`skipped all tests of ${what}: ${reason}`);
  return reason !== undefined;
}

let lan: Lan | undefined;

/** Adds a machine to the LAN of this file's tests, which there is from the first one on until they are done. */
export async function addMachine(name: string): Promise<Machine> {
  if (!lan) {
    const entered = enterLan();
    lan = entered;
    afterwards(() => {
      entered.leave();
      lan = undefined;
    });
  }
  return lan.addMachine(name);
}
