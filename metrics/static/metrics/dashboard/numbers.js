import { _ } from "../../backoffice/words.js";

const LANGUAGE = globalThis.document?.documentElement.lang || undefined;
const one = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 0 });

/** A value with its unit, in the words of `value_text` in metrics/dashboard/metric_tiles.py. */
export function valueText(value, unit, kind) {
  if (value === null || value === undefined) return "–";
  if (kind === "flag") return value ? _("yes") : _("no");
  if (unit === "s") return kind === "age" ? duration(value) : milliseconds(value);
  const text = Math.abs(value) < 10 && !Number.isInteger(value) ? one.format(value) : whole.format(value);
  if (unit === "percent") return _("%(n)s%", { n: text });
  const words = { "1/s": _("/s"), "1/min": _("/min"), GiB: _("GiB"), days: _("days") };
  return unit in words ? `${text} ${words[unit]}` : text;
}

function duration(value) {
  const seconds = Math.round(value);
  if (seconds < 60) return _("%(n)s s", { n: seconds });
  const two = (number) => String(number).padStart(2, "0");
  if (seconds < 3600) return _("%(m)s min %(s)s s", { m: Math.floor(seconds / 60), s: two(seconds % 60) });
  return _("%(h)s h %(m)s min", { h: Math.floor(seconds / 3600), m: two(Math.floor((seconds % 3600) / 60)) });
}

function milliseconds(value) {
  return value < 1 ? _("%(n)s ms", { n: whole.format(value * 1000) }) : _("%(n)s s", { n: one.format(value) });
}

/** What a chart is drawn in: shares from 0 to 1, milliseconds, seconds or a number; and the factor to get there. */
export function chartUnit(unit, kind) {
  if (unit === "percent") return ["share", 0.01];
  if (unit === "s") return kind === "age" ? ["seconds", 1] : ["milliseconds", 1000];
  return ["count", 1];
}
