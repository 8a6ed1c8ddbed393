/** Something that is stored under a name, without its bytes. */
export interface ObjectInfo {
  name: string;
  /** Bytes of all of it. */
  size: number;
  /** Another one with every write: an ETag. */
  version: string;
  /** When it was written, by the storage's clock, in milliseconds since the epoch. */
  modified: number;
}

export interface StoredObject extends ObjectInfo {
  /** What was asked for of it. */
  bytes: Buffer;
}

export interface StorageOptions {
  signal: AbortSignal;
}

/** A part of an object. It may reach beyond the end. */
export interface ByteRange {
  offset: number;
  length: number;
}

export interface GetObjectOptions extends StorageOptions {
  range?: ByteRange;
}

export interface PutObjectOptions extends StorageOptions {
  /** What has to be there for the write to happen: nothing, or this version. Without it, whatever is there is replaced. */
  expected?: 'nothing' | { version: string };
}

export interface DeleteObjectOptions extends StorageOptions {
  /** Only this version. */
  version?: string;
}

/** What has crossed since it was opened, repetitions included. */
export interface StorageTraffic {
  requests: number;
  /** Bytes of bodies. */
  sent: number;
  received: number;
}

/**
 * Objects under names, each written as a whole: who reads while another writes gets what was or what is, and never a
 * part of it. Names are ASCII, with `/` between their parts. What has been written is seen by all who read or list later.
 * What fails for a passing reason is tried again within each call; calls run side by side.
 *
 * @throws LazytreeError from every method: NETWORK when it cannot be reached or does not answer as it should, REFUSED
 * (credentials, permission), NOT_FOUND (the container, not an object), NO_SPACE
 */
export interface Storage {
  /** For people: what it is and where, and nothing secret. */
  describe(): string;
  /** Undefined when there is no such object. A range that begins beyond its end has no bytes. */
  get(name: string, options: GetObjectOptions): Promise<StoredObject | undefined>;
  /**
   * Durable once it resolves.
   *
   * @param bytes parts that follow one another
   * @returns undefined when what is there is not what was expected, and then nothing has been written
   */
  put(
    name: string,
    bytes: readonly Uint8Array[],
    options: PutObjectOptions,
  ): Promise<{ version: string } | undefined>;
  /** Gives what is there another version, and the present time. @returns whether something is there */
  touch(name: string, options: StorageOptions): Promise<boolean>;
  /** Objects whose names begin with `prefix`, in ascending order of their names. */
  list(prefix: string, options: StorageOptions): AsyncIterable<ObjectInfo>;
  /** Resolves to whether it is gone: false when another version is there. To delete what is not there is no error. */
  delete(name: string, options: DeleteObjectOptions): Promise<boolean>;
  /** What the storage's clock says, in milliseconds since the epoch. */
  now(options: StorageOptions): Promise<number>;
  traffic(): StorageTraffic;
  close(): Promise<void>;
}
