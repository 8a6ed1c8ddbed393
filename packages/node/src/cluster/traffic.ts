/** Bytes of messages, each way, of one peer. */
export interface Traffic {
  sent: number;
  received: number;
}
