export type { OriginContent, OriginContext, OriginDriver, OriginPin, OriginProgress } from './driver.js';
export {
  createOrigins,
  formatOrigin,
  isOffline,
  type Origin,
  type OriginCaller,
  type OriginOptions,
  type Origins,
  type ResolvedOrigin,
  withOrigins,
} from './origins.js';
export { explainPath, type Reason, type Why } from './why.js';
