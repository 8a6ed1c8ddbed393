// `npm run quickstart`: from a fresh clone to a working lazytree.
import { prepare } from './lib/prepare.mjs';

prepare();
