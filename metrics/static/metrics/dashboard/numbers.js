import { _ } from "../../backoffice/words.js";

const LANGUAGE = globalThis.document?.documentElement.lang || undefined;

/** A value with its unit, in the words of metrics/monitoring/units.py. */
export function valueText(value, unit, kind) {
  if (value === null || value === undefined) return "–";
  if (kind === "flag") return value ? _("yes") : _("no");
  if (unit === "s") return value >= 10 ? duration(value) : milliseconds(value);
  const n = number(value, Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 2);
  const words = {
    percent: () => _("%(n)s%", { n }),
    "1/s": () => _("%(n)s per second", { n }),
    "1/min": () => _("%(n)s per minute", { n }),
    GiB: () => _("%(n)s GiB", { n }),
    days: () => _("%(n)s days", { n }),
  };
  return words[unit]?.() ?? n;
}

function number(value, digits) {
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(LANGUAGE, format).format(value);
}

function duration(value) {
  const seconds = Math.round(value);
  if (seconds < 60) return _("%(n)s s", { n: seconds });
  const two = (part) => String(part).padStart(2, "0");
  if (seconds < 3600) return _("%(m)s min %(s)s s", { m: Math.floor(seconds / 60), s: two(seconds % 60) });
  return _("%(h)s h %(m)s min", { h: Math.floor(seconds / 3600), m: two(Math.floor((seconds % 3600) / 60)) });
}

function milliseconds(value) {
  return value < 1 ? _("%(n)s ms", { n: Math.round(value * 1000) }) : _("%(n)s s", { n: number(value, 1) });
}

/** The unit of a chart (share from 0 to 1, milliseconds, seconds or count), and the factor that converts to it. */
export function chartUnit(unit, kind) {
  if (unit === "percent") return ["share", 0.01];
  if (unit === "s") return kind === "age" ? ["seconds", 1] : ["milliseconds", 1000];
  return ["count", 1];
}
