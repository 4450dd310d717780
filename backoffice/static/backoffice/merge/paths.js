// Paths into a record: `fields[q3].label`.

export const atName = (path, name) => (path ? `${path}.` : "") + name.replace(/[\\.[\]]/g, "\\$&");
export const atItem = (path, item) => `${path}[${item.replace(/[\\\]]/g, "\\$&")}]`;

/** A path as its names and ids: `fields[q3].label` is `["fields", "q3", "label"]`. */
export function steps(path) {
  const step = /\[((?:[^\\\]]|\\.)*)\]|\.?((?:[^\\.[\]]|\\.)*)/gsy;
  const found = [];
  while (step.lastIndex < path.length || found.length === 0) {
    const from = step.lastIndex;
    const match = step.exec(path);
    if (!match || step.lastIndex === from) break;
    found.push((match[1] ?? match[2]).replace(/\\(.)/gs, "$1"));
  }
  return found;
}
