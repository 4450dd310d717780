import { jsonOf } from "../backoffice/answers.js";
import { DebouncedSet } from "../backoffice/debounced_set.js";
import { live } from "../backoffice/live.js";

/** Keeps the bell's numbers current on every page, and announces a new critical alert to screen readers. */
class Bell {
  #announced;

  constructor(element, announcer) {
    this.element = element;
    this.announcer = announcer;
  }

  async refresh({ quietly = false } = {}) {
    const { critical, warning, newest, said } = await jsonOf(await fetch(this.element.dataset.alertBell));
    this.#show("critical", critical);
    this.#show("warning", warning);
    if (!quietly && newest !== null && newest !== this.#announced) this.announcer.textContent = said;
    this.#announced = newest;
  }

  #show(severity, number) {
    const count = this.element.querySelector(`[data-bell="${severity}"]`);
    count.querySelector("[data-number]").textContent = String(number);
    count.hidden = number === 0;
  }
}

const element = document.querySelector("[data-alert-bell]");
if (element) {
  const bell = new Bell(element, document.querySelector("[data-bell-announcer]"));
  const refresh = new DebouncedSet((reasons) => bell.refresh({ quietly: !reasons.includes("alerts") }), 300);
  live().subscribe(["alerts"], {
    onEvent: () => refresh.add("alerts"),
    onEphemeral: () => refresh.add("alerts"),
    onReset: (frame) => frame.reason !== "forbidden" && refresh.add("alerts"),
    onDenied: () => {},
    onSubscribed: () => refresh.add("subscribed"),
  });
}
