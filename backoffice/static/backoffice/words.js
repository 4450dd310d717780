/** Translates a UI text with Django's JavaScript catalogue; English if the catalogue did not load. */
export function _(text, values = {}) {
  const found = globalThis.gettext ? globalThis.gettext(text) : text;
  return fill(found, values);
}

export function ngettext(one, many, n, values = {}) {
  const found = globalThis.ngettext ? globalThis.ngettext(one, many, n) : n === 1 ? one : many;
  return fill(found, { n, ...values });
}

function fill(text, values) {
  return text.replace(/%\((\w+)\)s/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
