/** What is followed, and up to where it is complete. No input or output in here: frames in, frames out. */

/**
 * The socket's side: one entry per topic on the wire, for however many tabs.
 *
 * A topic has at most one request under way. Until its `subscribed` is here only replayed events count: what else
 * arrives was sent before the server saw the request, and is part of the replay. Frames for the tabs say what they
 * come right `after` on each topic: who stands before that has missed something, and waits for a replay of its own.
 */
export class Wire {
  #topics = new Map(); // name -> { since, following, next, unwanted, people }
  #requests = 0;
  #epoch = null;

  /** Frames to send so that `names` come from `since` ({epoch, position}, or null for "from now"). */
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

  /** Frames to send when nobody wants these topics any more. */
  drop(names) {
    const done = names.filter((name) => {
      const known = this.#topics.get(name);
      if (known) known.unwanted = true; // under way: let it arrive first
      return known?.following && this.#topics.delete(name);
    });
    return done.length ? [{ type: "unsubscribe", id: ++this.#requests, topics: done }] : [];
  }

  /** What a tab that asks late must be told about topics that are already followed. */
  told(names) {
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

  /** Note what a frame says: { send: frames to answer with, show: the frame for the tabs or null }. */
  take(frame) {
    switch (frame.type) {
      case "welcome":
        return { send: this.#welcomed(frame), show: frame };
      case "event":
        return { send: [], show: this.#event(frame) };
      case "subscribed":
        return this.#subscribed(frame);
      case "ping": { // only what is confirmed on this connection: the rest may still have to catch up
        const topics = [...this.#topics.keys()].filter((name) => this.#topics.get(name).following);
        return { send: [], show: { ...frame, topics, after: this.#reach(topics, frame.position) } };
      }
      case "reset":
        this.#epoch = frame.epoch;
        for (const name of frame.topics) this.#topics.delete(name);
        break;
      case "presence":
        gather(this.#topics.get(frame.topic)?.people, frame);
        break;
    }
    return { send: [], show: frame };
  }

  /** The connection is gone, and with it every stretch: the next ones begin where the topics stand now. */
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
    const after = this.#reach(frame.topics, frame.position);
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
    return { send, show: { ...frame, after, epoch: this.#epoch } };
  }

  /** Topics are complete up to `position` now; returns what they were complete up to before. */
  #reach(names, position) {
    const after = {};
    for (const name of names) {
      const known = this.#topics.get(name);
      if (known === undefined) continue;
      after[name] = known.since?.position ?? position;
      known.since = { epoch: known.since?.epoch ?? this.#epoch, position: Math.max(after[name], position) };
    }
    return after;
  }

  /** One subscribe frame for each place where topics stand. */
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

/** Does somebody at `since` need more than a topic that stands at `known` will still bring? */
function isOlder(since, known) {
  if (since === null) return false;
  return known === null || known.epoch !== since.epoch || since.position < known.position;
}

/** A tab's side: for each topic its handlers, and for each handler the position up to which it has seen everything. */
export class Book {
  #topics = new Map(); // name -> Map(handler -> position or null)
  #epoch = null;

  add(names, handler, since) {
    for (const name of names) {
      const handlers = this.#topics.get(name) ?? new Map();
      handlers.set(handler, since?.position ?? null);
      this.#topics.set(name, handlers);
    }
    if (since) this.#epoch = since.epoch;
  }

  /** Returns the topics nobody in this tab wants any more. */
  remove(names, handler) {
    return names.filter((name) => {
      const handlers = this.#topics.get(name);
      handlers?.delete(handler);
      return handlers?.size === 0 && this.#topics.delete(name);
    });
  }

  /** What to ask a new other end for: [names, since] of each topic, from its furthest handler back. */
  wants() {
    return [...this.#topics].map(([name, handlers]) => {
      const position = standing(handlers);
      return [[name], position === null || this.#epoch === null ? null : { epoch: this.#epoch, position }];
    });
  }

  /** Where this tab stands, for its next page. */
  standing() {
    const positions = Object.fromEntries([...this.#topics].map(([name, handlers]) => [name, standing(handlers)]));
    return { epoch: this.#epoch, positions };
  }

  /** Hand a frame to whoever waits for it. What a handler has already seen is not shown to it again. */
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
        this.#epoch ??= frame.epoch ?? null;
        for (const name of frame.topics) this.#complete(name, frame);
        this.#call("onSubscribed", frame.topics, frame);
        for (const { topic, code } of frame.denied) this.#lose([topic], "onDenied", { topic, code });
        break;
      case "ping":
        for (const name of frame.topics) this.#complete(name, frame);
        break;
      case "reset":
        this.#epoch = frame.epoch;
        this.#lose(frame.topics, "onReset", frame);
        break;
    }
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

  /** The topic is complete up to the frame's position, for those who missed nothing before it or begin now. */
  #complete(name, frame) {
    const handlers = this.#topics.get(name) ?? new Map();
    for (const [handler, seen] of handlers) {
      if (seen === null || (seen >= frame.after[name] && seen < frame.position)) handlers.set(handler, frame.position);
    }
  }

  /** These topics are not followed any more: forget them first, so that a handler may subscribe again. */
  #lose(names, method, frame) {
    const handlers = this.#handlers(names);
    for (const name of names) this.#topics.delete(name);
    for (const handler of handlers) handler[method]?.(frame);
  }

  #call(method, names, frame) {
    for (const handler of this.#handlers(names)) handler[method]?.(frame);
  }

  /** Each handler once, however many of its topics are meant. */
  #handlers(names) {
    return new Set(names.flatMap((name) => [...(this.#topics.get(name)?.keys() ?? [])]));
  }
}

/** The position from which every handler of a topic is served; null is "from now". */
function standing(handlers) {
  const positions = [...handlers.values()].filter((position) => position !== null);
  return positions.length ? Math.min(...positions) : null;
}

/** Apply a presence frame to a map of people by id. */
export function gather(people, frame) {
  if (people === undefined) return;
  if (frame.full) people.clear();
  for (const person of frame.full ?? frame.joined ?? []) people.set(person.id, person);
  for (const id of frame.left ?? []) people.delete(id);
}
