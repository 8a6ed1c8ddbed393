import { mayMount } from '../fuse/device/privilege.js';
import { type OverlayPlace, type OverlayPlaceOptions, ownNamespace } from './overlay-place.js';
import { createUserNamespace } from './user-namespace.js';

/** The daemon's own mount namespace, or, for those who may not mount, one in a user namespace of its own. */
export async function chooseOverlayPlace(options: OverlayPlaceOptions): Promise<OverlayPlace> {
  return (await mayMount()) ? ownNamespace() : createUserNamespace(options);
}
