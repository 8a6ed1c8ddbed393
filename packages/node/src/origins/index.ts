export type { OriginContent, OriginContext, OriginDriver, OriginPin, OriginProgress } from './driver.js';
export { formatOrigin, type Origin } from './origin.js';
export {
  createOrigins,
  isOffline,
  type OriginCaller,
  type OriginOptions,
  type Origins,
  type ResolvedOrigin,
  withOrigins,
} from './origins.js';
export { explainPath, type Reason, type Why } from './why.js';
