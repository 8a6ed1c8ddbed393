// The way that one blob is a tree: an image is written, and sent as a whole; or fetched as a whole, and unpacked.
// As a program of its own: `one-blob.mjs put|get CONTAINER FILE`, with the connection string in the environment.
import { BlobServiceClient } from '@azure/storage-blob';

const [direction, container, file] = process.argv.slice(2);
const connection = process.env.AZURE_STORAGE_CONNECTION_STRING ?? '';
const blob = BlobServiceClient.fromConnectionString(connection)
  .getContainerClient(container)
  .getBlockBlobClient('tree.image');
// As the library does it by itself, several parts at a time.
if (direction === 'put') await blob.uploadFile(file, { blockSize: 4 << 20, concurrency: 5 });
else await blob.downloadToFile(file);
