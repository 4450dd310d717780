/** Sends forms by script, and judges the answers: only one of this application may replace what was typed. */
import { isJson, isOurs } from "./answers.js";
import { shell, token } from "./offline/shell.js";
import { _ } from "./words.js";

const ANSWER_MS = 20_000; // a slower answer counts as lost; sending the same command again is harmless

/** Sends the input of a form. Resolves to one of
 *
 *    {location, …}     done; the next page
 *    {theirs, page}    a page of the application with the same form, and messages about the input
 *    {page}            another page that shows the result
 *    {refusal}         a text: nothing was done, and sending it again would not help
 *    {state, heading}  nothing was done; who is signed in now (see `Network`), and the heading of an error page
 *    {lost, status}    no usable answer: it may be done; the status of an answer of something else */
export async function post(address, body, form) {
  const { network, person } = shell();
  body.set("csrfmiddlewaretoken", token()); // the one in the page may be outdated
  const headers = { "X-Requested-With": "fetch", "X-Person": String(person) };
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const answer = await fetch(address, { method: "POST", body, headers, signal });
    if (answer.status === 413) {
      return { refusal: _("This edit is too large for the server. Your changes stay on this page.") };
    }
    if (!isOurs(answer) || answer.status >= 500) {
      network.lost();
      return { lost: true, status: isOurs(answer) ? null : answer.status };
    }
    if (isJson(answer)) {
      const found = await answer.json();
      return found.location || found.refusal ? found : { state: await network.ask() };
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const theirs = counterpart(page, form);
    if (theirs || answer.ok) return { page, theirs };
    return { state: await network.ask(), heading: page.querySelector("h1")?.textContent.trim() };
  } catch {
    network.lost();
    return { lost: true, status: null };
  }
}

/** The same form in another copy of its page. */
export function counterpart(page, form) {
  const names = ["id", "class", "action"];
  const isSame = (other) => names.every((name) => other.getAttribute(name) === form.getAttribute(name));
  return [...page.querySelectorAll("form[method=post]")].find(isSame);
}

/** Why an input was not sent or not answered, as a sentence for the person who typed it. */
export function reasonToStay({ lost, status, state, heading }) {
  if (status) {
    return _("Your network answered instead of FormEase (%(status)s). Your changes stay on this page; try again later.", {
      status,
    });
  }
  if (lost || state === "offline") {
    return _("FormEase did not answer. Your changes stay on this page; try again. They are saved only once.");
  }
  const words = {
    signed_out: _("Not saved: you are signed out. Your changes stay on this page. Sign in in another tab and try again."),
    other: _("Not saved: someone else is signed in here now. Your changes stay on this page."),
  };
  return words[state] ?? `${heading ?? _("Not saved.")} ${_("Your changes stay on this page; try again.")}`;
}

/** Opens the next page. Typing that it would discard is not accepted any more; `back` is called if the page stays:
 *
 *    the person chose to stay    Browsers without `navigation` report nothing. They suspend timers while they ask, so
 *                                one runs once the person has answered; if it runs earlier, nobody can type yet.
 *    the person came back        pageshow
 *    the next page did not open  navigateerror; without it a page that is still here much later */
export function leave(form, address, back) {
  const ended = new AbortController();
  const { signal } = ended;
  const stay = () => {
    if (signal.aborted) return;
    ended.abort();
    form.inert = false;
    back();
  };
  form.inert = true;
  window.addEventListener("pageshow", stay, { signal });
  globalThis.navigation?.addEventListener("navigateerror", stay, { signal });
  window.addEventListener("beforeunload", (event) => setTimeout(() => event.defaultPrevented && stay()), { signal });
  setTimeout(stay, ANSWER_MS);
  location.assign(address);
}
