/**
 * Loads the page again if one of its scripts or style sheets did not load, as soon as the server answers. Without them
 * the page may look current and not be. A classic script before all modules: it runs although they do not load.
 *
 * A page with typed text is not left. Neither is one that stays incomplete after `MAX_RELOADS`: a file may be missing.
 */
(() => {
  const FIRST_WAIT_MS = 1000;
  const LONGEST_WAIT_MS = 30_000;
  const ANSWER_MS = 10_000;
  const MAX_RELOADS = 5;
  const FORGET_MS = 300_000; // reloads longer ago are not counted
  const KEY = `incomplete:${location.pathname}`;
  const SOURCE = document.currentScript.src;

  const state = document.documentElement.dataset;
  let failures = 0;
  let timer = null;

  window.addEventListener("error", ({ target }) => {
    if (target instanceof HTMLScriptElement) window.dispatchEvent(new Event("incomplete"));
  }, true);
  window.addEventListener("load", () => {
    const ours = [...document.querySelectorAll("link[rel=stylesheet]")].filter(({ href }) => isOurs(href));
    if (!ours.every(({ sheet }) => isLoaded(sheet))) window.dispatchEvent(new Event("incomplete"));
  });
  window.addEventListener("incomplete", () => {
    if ("incomplete" in state) return;
    state.incomplete = "";
    failures = reloads();
    wait();
  });
  window.addEventListener("online", () => timer && retry());
  document.addEventListener("DOMContentLoaded", show);

  function isOurs(address) {
    return new URL(address).origin === location.origin;
  }

  /** Whether a style sheet and those that it imports are here; the rules of one that did not load cannot be read. */
  function isLoaded(sheet) {
    try {
      return [...sheet.cssRules].every((rule) => !(rule instanceof CSSImportRule) || isLoaded(rule.styleSheet));
    } catch {
      return false;
    }
  }

  function wait() {
    timer = setTimeout(retry, Math.random() * Math.min(FIRST_WAIT_MS * 2 ** ++failures, LONGEST_WAIT_MS));
    show();
  }

  async function retry() {
    clearTimeout(timer);
    timer = null;
    if (mayReload() && (await answers()) && mayReload()) {
      count();
      location.reload();
    } else wait();
  }

  function mayReload() {
    return reloads() < MAX_RELOADS && !("covered" in state) && !hasTyping();
  }

  /** Whether text would be lost: by the scripts that protect it, and by the fields, since those scripts may be missing. */
  function hasTyping() {
    const fields = document.querySelectorAll("form[method=post] :is(input, textarea)");
    const isChanged = (field) => field.value !== field.defaultValue || field.checked !== field.defaultChecked;
    return [...fields].some(isChanged) || !window.dispatchEvent(new Event("beforeunload", { cancelable: true }));
  }

  async function answers() {
    const options = { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) };
    const answer = await fetch(SOURCE, options).catch(() => null);
    return answer !== null && answer.status < 500;
  }

  function reloads() {
    try {
      const [number, at] = JSON.parse(sessionStorage.getItem(KEY)) ?? [0, 0];
      return Date.now() - at < FORGET_MS ? number : 0;
    } catch {
      return MAX_RELOADS; // cannot be counted
    }
  }

  function count() {
    sessionStorage.setItem(KEY, JSON.stringify([reloads() + 1, Date.now()]));
  }

  function show() {
    const notice = document.querySelector("[data-incomplete-notice]");
    if (!notice || !("incomplete" in state)) return;
    const reloadsItself = mayReload();
    notice.querySelector("[data-incomplete-waiting]").hidden = !reloadsItself;
    notice.querySelector("[data-incomplete-left]").hidden = reloadsItself;
    notice.hidden = false;
  }
})();
