// JSON values of the merge: equality, instants, canonical form, and the error that malformed records raise.

/** A malformed record or choice; `fields` maps a path to the error message. */
export class InvalidMerge extends Error {
  constructor(fields) {
    super(Object.entries(fields).map(([path, message]) => `${path}: ${message}`).join(" "));
    this.fields = fields;
  }
}

export const invalid = (path, message) => new InvalidMerge(Object.fromEntries([[path, message]]));
export const isMap = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
export const isList = Array.isArray;
export const isNumber = (value) => typeof value === "number";
export const isId = (value) => typeof value === "string" || Number.isInteger(value);
export const get = (map, name) => (Object.hasOwn(map, name) ? map[name] : undefined);

// Plain assignment would call the setter of a field named "__proto__".
export const put = (map, name, value) =>
  Object.defineProperty(map, name, { value, writable: true, enumerable: true, configurable: true });

/** Deep equality of JSON values. */
export function same(a, b) {
  if (a === b) return true;
  if (isMap(a)) {
    if (!isMap(b)) return false;
    const names = Object.keys(a);
    return names.length === Object.keys(b).length && names.every((n) => Object.hasOwn(b, n) && same(a[n], b[n]));
  }
  return isList(a) && isList(b) && a.length === b.length && a.every((value, i) => same(value, b[i]));
}

const INSTANT =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:[Zz]|([+-])(\d\d):?(\d\d))$/;

/** A comparable form of an ISO time with an offset; any other value unchanged. */
export function instant(value) {
  const found = typeof value === "string" ? INSTANT.exec(value) : null;
  if (!found) return value;
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map((part) => Number(part ?? 0));
  const at = new Date(0);
  at.setUTCFullYear(year, month - 1, day);
  at.setUTCHours(hour, minute, second);
  const exists =
    year > 0 && at.getUTCMonth() === month - 1 && at.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!exists) return value;
  const [fraction, sign, hours, minutes] = found.slice(7);
  const offset = (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * 60;
  return ["instant", at.getTime() / 1000 - (sign === "-" ? -offset : offset), (fraction ?? "").replace(/0+$/, "")];
}

export const byCodePoint = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** JSON with sorted names: equal values give equal strings. */
export function canonicalJson(value) {
  if (isList(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (!isMap(value)) return JSON.stringify(value);
  const names = Object.keys(value).sort(byCodePoint);
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonicalJson(value[name])}`).join(",")}}`;
}

export const keyOf = (value) => (typeof value === "string" ? value : canonicalJson(value));
export const names = (...each) => [...new Set(each.flatMap((known) => [...known]))];
export const tidy = (conflict) =>
  Object.fromEntries(Object.entries(conflict).filter(([, value]) => value !== undefined));
