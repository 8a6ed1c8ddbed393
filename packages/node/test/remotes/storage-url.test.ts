import { expect, test } from 'vitest';
import { parseEndpoint, parseStorageUrl } from '../../dist/remotes/storage/storage-url.js';

test.each([
  ['azure://account/container', { account: 'account', container: 'container', prefix: '' }],
  ['azure://account/container/', { account: 'account', container: 'container', prefix: '' }],
  [
    'azure://acc123/a-b-3/some/pre.fix_1',
    { account: 'acc123', container: 'a-b-3', prefix: 'some/pre.fix_1' },
  ],
  ['AZURE://account/$root', { account: 'account', container: '$root', prefix: '' }],
])('%s', (url, place) => {
  expect(parseStorageUrl(url)).toEqual({ kind: 'azure', ...place });
});

test.each([
  ['file:///srv/share', '/srv/share'],
  ['file:///srv/share/', '/srv/share'],
  ['file://localhost/srv', '/srv'],
  ['file:///with%20space/%25', '/with space/%'],
  ['file:///', '/'],
])('%s is a directory', (url, path) => {
  expect(parseStorageUrl(url)).toEqual({ kind: 'directory', path });
});

test.each([
  's3://bucket/x',
  'https://account.blob.core.windows.net/container',
  '/srv/share',
  'azure:account/container',
  'azure://',
  'azure://account',
  'azure://account/',
  'azure://Account/container',
  'azure://ac/container',
  'azure://account/Container',
  'azure://account/co',
  'azure://account/con--tainer',
  'azure://account/-container',
  `azure://account/${'c'.repeat(64)}`,
  'azure://account/container/../other',
  'azure://account/container//x',
  'azure://account/container/.hidden',
  'azure://account/container/x.',
  'azure://account/container/ä',
  'azure://account/container/a%2Fb',
  'azure://account/$root/prefix',
  'azure://account/container?x=1',
  'azure://account/container#x',
  'file://host/share',
  'file://relative',
  'file:///bad%',
  'file:///nul%00',
  '',
])('%j is refused', (url) => {
  expect(() => parseStorageUrl(url)).toThrow(
    expect.objectContaining({ name: 'LazytreeError', code: 'USAGE', hint: expect.stringMatching(/./) }),
  );
});

test('what is no URL of a remote is told which there are', () => {
  expect(() => parseStorageUrl('s3://bucket')).toThrow(
    expect.objectContaining({ hint: expect.stringMatching(/azure:\/\/.*file:\/\//) }),
  );
});

const KEY = `${'A1b2+/'.repeat(14)}Az==`;

test.each([
  'azure://account/container?sv=2024-11-04&sig=SECRET',
  'azure://account/container/%3Fsig=SECRET',
  'azure://account:SECRET@host/container',
  'https://account.blob.core.windows.net/container?sp=r&sig=SECRET',
  'DefaultEndpointsProtocol=https;AccountName=a;AccountKey=SECRET;EndpointSuffix=core.windows.net',
  'BlobEndpoint=https://a.blob.core.windows.net;SharedAccessSignature=SECRET',
  'sv=2024-11-04&sig=SECRET',
  `SECRET${KEY}`,
  `azure://account/container/SECRET${KEY}`,
])('a secret is not repeated: %s', (url) => {
  for (const parse of [parseStorageUrl, parseEndpoint]) {
    let failure: { message: string; hint: string; code: string } | undefined;
    try {
      parse(url);
    } catch (error) {
      failure = error as typeof failure;
    }
    expect(failure).toMatchObject({ code: 'USAGE', message: expect.stringContaining('contains a secret') });
    expect(failure?.hint).toContain('--credentials');
    expect(`${failure?.message} ${failure?.hint}`).not.toContain('SECRET');
    expect(failure?.message).not.toContain(KEY);
  }
});

test('endpoints', () => {
  expect(parseEndpoint('http://127.0.0.1:10000/devstoreaccount1/')).toBe(
    'http://127.0.0.1:10000/devstoreaccount1',
  );
  expect(parseEndpoint('https://account.blob.core.chinacloudapi.cn')).toBe(
    'https://account.blob.core.chinacloudapi.cn',
  );
  for (const bad of [
    '',
    'account',
    'ftp://x',
    'http://',
    'https://x/?a=b',
    'https://x/#y',
    'https://u@x/',
    'azure://a/b',
  ])
    expect(() => parseEndpoint(bad), bad).toThrow(expect.objectContaining({ code: 'USAGE' }));
});
