/**
 * Loads the page again if one of its scripts or style sheets did not load, as soon as the server answers. Without them
 * the page may look current and not be. A classic script before all modules: it runs although they do not load.
 *
 * A page with typed text is not left, nor one that answered a post: to load it again would post again. Neither is one
 * that is still incomplete after `MAX_RELOADS`: a file may be missing, or something in the browser blocks it. They are
 * counted for the whole tab, or a browser that blocks a script of every page would load each of them so often.
 */
(() => {
  const FIRST_WAIT_MS = 1000;
  const LONGEST_WAIT_MS = 30_000;
  const ANSWER_MS = 10_000;
  const MAX_RELOADS = 5;
  const FORGET_MS = 300_000; // reloads longer ago are not counted
  const KEY = "incomplete";
  const SOURCE = document.currentScript.src;

  const state = document.documentElement.dataset;
  let failures = 0;
  let timer = null;

  window.addEventListener("error", ({ target }) => {
    if (target instanceof HTMLScriptElement && isOurs(target.src)) window.dispatchEvent(new Event("incomplete"));
  }, true);
  window.addEventListener("load", () => {
    const ours = [...document.querySelectorAll("link[rel=stylesheet]")].filter(({ href }) => isOurs(href));
    if (!ours.every(({ sheet }) => isLoaded(sheet))) window.dispatchEvent(new Event("incomplete"));
  });
  window.addEventListener("incomplete", () => {
    if ("incomplete" in state) return;
    state.incomplete = "";
    failures = reloads();
    if (failures < MAX_RELOADS) wait();
    else giveUp();
  });
  window.addEventListener("online", () => timer && retry());
  document.addEventListener("DOMContentLoaded", show);

  function isOurs(address) {
    return address.startsWith(`${location.origin}/`);
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

  /** Reloads now would be in vain; this page does not begin again when they are forgotten, and neither does the next. */
  function giveUp() {
    count(MAX_RELOADS);
    show();
  }

  async function retry() {
    clearTimeout(timer);
    timer = null;
    if (mayReload() && (await answers()) && mayReload() && count(reloads() + 1)) location.reload();
    else wait();
  }

  function mayReload() {
    const isLeft = document.querySelector("[data-incomplete-notice][data-posted]") || "covered" in state;
    return reloads() < MAX_RELOADS && !isLeft && !hasTyping();
  }

  /** Whether text would be lost: by the scripts that protect it, and by the fields, since those scripts may be missing. */
  function hasTyping() {
    const fields = document.querySelectorAll("form[method=post] :is(input, textarea, select), :is(input, textarea):focus");
    return [...fields].some(isChanged) || !window.dispatchEvent(new Event("beforeunload", { cancelable: true }));
  }

  function isChanged(field) {
    if (field.type === "select-one" && !field.querySelector("[selected]")) return field.selectedIndex > 0;
    if (field.options) return [...field.options].some((option) => option.selected !== option.defaultSelected);
    return field.value !== field.defaultValue || field.checked !== field.defaultChecked;
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

  /** Returns whether the number was stored. */
  function count(number) {
    try {
      sessionStorage.setItem(KEY, JSON.stringify([number, Date.now()]));
      return true;
    } catch {
      return false;
    }
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
