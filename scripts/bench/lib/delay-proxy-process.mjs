// delay-proxy-process.mjs HOST PORT TARGET-HOST TARGET-PORT MS: a delaying proxy, until it is killed.
import { startDelayProxy } from '../../../test/cluster/delay-proxy.ts';

const [, , host, port, targetHost, targetPort, delay] = process.argv;
await startDelayProxy({
  host,
  port: Number(port),
  target: { host: targetHost, port: Number(targetPort) },
  delay: Number(delay),
});
