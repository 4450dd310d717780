const EVENT = "metrics.updated";

/** The `metrics.updated` values in an ephemeral frame, which may be one of several in a batch. */
export function updatesIn(frame) {
  const values = frame.data.updates ?? [frame];
  return values.filter((value) => value.event === EVENT).map((value) => value.data);
}
