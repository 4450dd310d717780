/** The topics that are followed, and the positions up to which they are complete. Pure: frames in, frames out. */

/**
 * The leader's side: one entry per topic followed on the connection, for any number of tabs.
 *
 * A topic has at most one pending subscription. Until its `subscribed` arrives only replayed events count: other events
 * were sent before the server saw the request, and are part of the replay. A frame for the tabs carries `after`, the
 * position it directly follows on each topic: a handler at an older position has missed events and waits for a replay.
 */
export class TopicTable {
  #topics = new Map(); // name -> { since, following, next, unwanted, people }
  #requests = 0;
  #epoch = null;

  /** Returns the frames to send to follow `names` from `since` ({epoch, position}, or null for "from now"). */
  want(names, since) {
    const missing = names.filter((name) => {
      const known = this.#topics.get(name);
      if (known === undefined) {
        this.#topics.set(name, { since, following: false, next: null, unwanted: false, people: new Map() });
        return true;
      }
      known.unwanted = false;
      if (!isOlder(since, known.since)) return false;
      if (known.following) {
        known.since = since;
        known.following = false;
        return true;
      }
      if (known.next === null || isOlder(since, known.next)) known.next = since;
      return false;
    });
    return this.#subscribe(missing);
  }

  /** Returns the frames to send once no tab follows these topics any more. */
  drop(names) {
    const done = names.filter((name) => {
      const known = this.#topics.get(name);
      if (known) known.unwanted = true; // pending: wait for its answer first
      return known?.following && this.#topics.delete(name);
    });
    return done.length ? [{ type: "unsubscribe", id: ++this.#requests, topics: done }] : [];
  }

  /** Returns the frames that bring a new follower up to date on topics that are already followed. */
  current(names) {
    const frames = [];
    for (const name of names) {
      const known = this.#topics.get(name);
      if (known?.following) {
        const { position } = known.since;
        const after = { [name]: position };
        frames.push({ type: "subscribed", topics: [name], denied: [], position, after, epoch: this.#epoch });
        if (known.people.size) frames.push({ type: "presence", topic: name, full: [...known.people.values()] });
      }
    }
    return frames;
  }

  /** Apply a frame; returns { send: frames to answer with, show: the frame for the tabs or null }. */
  take(frame) {
    switch (frame.type) {
      case "welcome":
        return { send: this.#welcomed(frame), show: frame };
      case "event":
        return { send: [], show: this.#event(frame) };
      case "subscribed":
        return this.#subscribed(frame);
      case "ping": { // for topics confirmed on this connection only: the others may still have to catch up
        const topics = [...this.#topics.keys()].filter((name) => this.#topics.get(name).following);
        return { send: [], show: { ...frame, topics, after: this.#reach(topics, frame.position, frame.epoch) } };
      }
      case "reset":
        this.#epoch = frame.epoch;
        for (const name of frame.topics) this.#topics.delete(name);
        break;
      case "presence":
        applyPresence(this.#topics.get(frame.topic)?.people, frame);
        break;
    }
    return { send: [], show: frame };
  }

  /** The connection is lost, with all pending subscriptions; the next ones start at the current positions. */
  lost() {
    for (const [name, known] of this.#topics) {
      if (known.unwanted) this.#topics.delete(name);
      if (known.next !== null) known.since = known.next;
      known.next = null;
      known.following = false;
      known.people.clear();
    }
  }

  #welcomed(frame) {
    this.#epoch = frame.epoch;
    this.lost();
    return this.#subscribe([...this.#topics.keys()]);
  }

  #event(frame) {
    const topics = frame.topics.filter((name) => {
      const known = this.#topics.get(name);
      return known !== undefined && (known.following || frame.replayed === true);
    });
    return topics.length ? { ...frame, topics, after: this.#reach(topics, frame.position) } : null;
  }

  #subscribed(frame) {
    const again = [];
    const unwanted = [];
    const after = this.#reach(frame.topics, frame.position, frame.epoch);
    for (const name of frame.topics) {
      const known = this.#topics.get(name);
      if (known === undefined) continue;
      known.following = true;
      if (known.unwanted) unwanted.push(name);
      else if (known.next !== null) {
        known.since = known.next;
        known.next = null;
        known.following = false;
        again.push(name);
      }
    }
    for (const denied of frame.denied) this.#topics.delete(denied.topic);
    const send = [...this.#subscribe(again), ...this.drop(unwanted)];
    return { send, show: { ...frame, after, epoch: frame.epoch || this.#epoch } };
  }

  /**
   * Topics are complete up to `position`; returns the positions up to which they were complete before. `epoch`: the
   * history that the position belongs to, where the frame names it; it may continue the one that the topic came from.
   */
  #reach(names, position, epoch) {
    const after = {};
    for (const name of names) {
      const known = this.#topics.get(name);
      if (known === undefined) continue;
      after[name] = known.since?.position ?? position;
      const from = epoch || known.since?.epoch || this.#epoch;
      known.since = { epoch: from, position: Math.max(after[name], position) };
    }
    return after;
  }

  /** One subscribe frame for each distinct starting position. */
  #subscribe(names) {
    const groups = new Map();
    for (const name of names) {
      const since = this.#topics.get(name).since;
      const key = since === null ? "now" : `${since.epoch}:${since.position}`;
      if (!groups.has(key)) groups.set(key, { type: "subscribe", id: ++this.#requests, topics: [], since });
      groups.get(key).topics.push(name);
    }
    return [...groups.values()].map((frame) => (frame.since === null ? { ...frame, since: undefined } : frame));
  }
}

/** Whether a follower at `since` needs older events than a topic at `known` will deliver. */
function isOlder(since, known) {
  if (since === null) return false;
  return known === null || known.epoch !== since.epoch || since.position < known.position;
}

/** A tab's side: the handlers of each topic, and for each the position up to which it has seen every event. */
export class HandlerTable {
  #topics = new Map(); // name -> Map(handler -> position or null)
  #epoch = null;
  #earlier = new Map(); // name -> epoch, of topics whose positions belong to an earlier history

  add(names, handler, since) {
    if (since) this.#rename({ epoch: since.epoch, topics: names });
    for (const name of names) {
      const handlers = this.#topics.get(name) ?? new Map();
      handlers.set(handler, since?.position ?? null);
      this.#topics.set(name, handlers);
    }
  }

  /** Returns the topics that no handler of this tab follows any more. */
  remove(names, handler) {
    return names.filter((name) => {
      const handlers = this.#topics.get(name);
      handlers?.delete(handler);
      return handlers?.size === 0 && this.#topics.delete(name);
    });
  }

  /** The requests to a new leader: [names, since] of each topic, from its oldest handler position. */
  requests() {
    return [...this.#topics].map(([name, handlers]) => {
      const position = oldestPosition(handlers);
      const epoch = this.#earlier.get(name) ?? this.#epoch;
      return [[name], position === null || epoch === null ? null : { epoch, position }];
    });
  }

  /** The positions of this tab, from which its next page may resume. */
  positions() {
    const current = [...this.#topics].filter(([name]) => !this.#earlier.has(name));
    const positions = Object.fromEntries(current.map(([name, handlers]) => [name, oldestPosition(handlers)]));
    return { epoch: this.#epoch, positions };
  }

  /** Pass a frame to the handlers of its topics; none gets an event twice. */
  take(frame) {
    switch (frame.type) {
      case "welcome":
        this.#epoch ??= frame.epoch;
        break;
      case "event":
        this.#event(frame);
        break;
      case "ephemeral":
        this.#call("onEphemeral", [frame.topic], frame);
        break;
      case "presence":
        this.#call("onPresence", [frame.topic], frame);
        break;
      case "subscribed":
        this.#continue(frame);
        for (const name of frame.topics) this.#complete(name, frame);
        this.#call("onSubscribed", frame.topics, frame);
        for (const { topic, code } of frame.denied) this.#lose([topic], "onDenied", { topic, code });
        break;
      case "ping":
        this.#continue(frame);
        for (const name of frame.topics) this.#complete(name, frame);
        break;
      case "reset":
        this.#rename(frame);
        this.#lose(frame.topics, "onReset", frame);
        break;
    }
  }

  /**
   * The frame's topics are complete up to its position in its history. Where that is not the history of the positions
   * here, a handler beyond it may have seen events that the log has lost: it has to reload.
   */
  #continue(frame) {
    if (!frame.epoch) return;
    const changed = frame.topics.filter((name) => (this.#earlier.get(name) ?? this.#epoch ?? frame.epoch) !== frame.epoch);
    this.#rename(frame);
    const lost = changed.filter((name) => {
      const positions = [...(this.#topics.get(name)?.values() ?? [])];
      return positions.some((position) => position !== null && position > frame.position);
    });
    if (lost.length) this.#lose(lost, "onReset", { ...frame, type: "reset", reason: "epoch", topics: lost });
  }

  /** The positions of the frame's topics belong to its history, those of others still to an earlier one. */
  #rename(frame) {
    if (this.#epoch !== null && this.#epoch !== frame.epoch) {
      for (const name of this.#topics.keys()) if (!this.#earlier.has(name)) this.#earlier.set(name, this.#epoch);
    }
    this.#epoch = frame.epoch;
    for (const name of frame.topics) this.#earlier.delete(name);
  }

  #event(frame) {
    const fresh = new Set();
    for (const name of frame.topics) {
      const handlers = this.#topics.get(name) ?? new Map();
      for (const [handler, position] of handlers) {
        if (position === null || position < frame.after[name] || frame.position <= position) continue;
        handlers.set(handler, frame.position);
        fresh.add(handler);
      }
    }
    for (const handler of fresh) handler.onEvent?.(frame);
  }

  /** The topic is complete up to the frame's position, for handlers that missed nothing before it or start now. */
  #complete(name, frame) {
    const handlers = this.#topics.get(name) ?? new Map();
    for (const [handler, seen] of handlers) {
      if (seen === null || (seen >= frame.after[name] && seen < frame.position)) handlers.set(handler, frame.position);
    }
  }

  /** These topics are no longer followed. Remove them first, so that a handler may subscribe again. */
  #lose(names, method, frame) {
    const handlers = this.#handlers(names);
    for (const name of names) this.#topics.delete(name);
    for (const handler of handlers) handler[method]?.(frame);
  }

  #call(method, names, frame) {
    for (const handler of this.#handlers(names)) handler[method]?.(frame);
  }

  /** The handlers of these topics, each once. */
  #handlers(names) {
    return new Set(names.flatMap((name) => [...(this.#topics.get(name)?.keys() ?? [])]));
  }
}

/** The position from which all handlers of a topic are served; null is "from now". */
function oldestPosition(handlers) {
  const positions = [...handlers.values()].filter((position) => position !== null);
  return positions.length ? Math.min(...positions) : null;
}

/** Apply a presence frame to a map of people by id. */
export function applyPresence(people, frame) {
  if (people === undefined) return;
  if (frame.full) people.clear();
  for (const person of frame.full ?? frame.joined ?? []) people.set(person.id, person);
  for (const id of frame.left ?? []) people.delete(id);
}
