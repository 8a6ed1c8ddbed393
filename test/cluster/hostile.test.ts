import { beforeAll, describe, expect, test } from 'vitest';
import { createHostile, framed, type Hostile, varint } from './hostile.ts';
import { addMachine, unlessNetworked } from './network.ts';

/** The harness itself: a silence of a daemon says something only if this client would have heard an answer. */
describe.skipIf(unlessNetworked('hostile peers'))('a hostile peer', () => {
  let one: Hostile;
  let other: Hostile;

  beforeAll(async () => {
    await addMachine('nobody');
    one = await createHostile();
    other = await createHostile();
  });

  test('gets answers where there are any, and takes them down', async () => {
    await other.serve('/echo/1', (line) => line.listen((bytes) => void line.send(bytes)));
    const line = await one.open(other.addresses[0], '/echo/1');
    const message = framed(Buffer.alloc(300_000, 'echo '));
    await line.send(message);
    while (line.received().length < message.length) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(line.received().equals(message)).toBe(true);
    expect(await one.protocols(other.addresses[0])).toContain('/echo/1');
    expect(one.connected()).toEqual([other.id]);
    await line.finish();
  });

  test('is told of a protocol that is not spoken, and sees how a stream ends', async () => {
    await expect(one.open(other.addresses[0], '/nonsense/1')).rejects.toThrow();
    await other.serve('/bye/1', (line) => void line.finish());
    const line = await one.open(other.addresses[0], '/bye/1');
    await line.finish();
    expect(await line.closed).toBe('closed');
    await other.serve('/gone/1', () => void other.close());
    const last = await one.open(other.addresses[0], '/gone/1');
    await last.closed;
    expect(last.isOpen()).toBe(false);
    await expect(last.send(Buffer.from('anybody?'))).rejects.toThrow();
  });

  test('frames as others do', () => {
    expect([...varint(300)]).toEqual([0xac, 0x02]);
    expect([...framed(Buffer.from('x'))]).toEqual([1, 120]);
    expect([...varint(2 ** 35)]).toEqual([128, 128, 128, 128, 128, 1]);
  });
});
