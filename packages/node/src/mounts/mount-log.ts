/** Where mounts tell what nobody has asked for. */
export interface MountLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}
