/** On every page: draws the charts, and refreshes the numbers that counters keep when the server says they changed. */

async function start() {
  const figures = document.querySelectorAll("[data-chart]");
  const parts = document.querySelectorAll("[data-figures]");
  const list = document.querySelector("[data-list]");
  if (figures.length) {
    const { chartOf } = await import("./chart.js");
    figures.forEach((figure) => chartOf(figure));
  }
  if (!parts.length && !list) return;
  const { LivePart, LiveCells } = await import("./numbers.js");
  parts.forEach((part) => new LivePart(part).start());
  if (list) new LiveCells(list).start();
}

start().catch((error) => console.warn(error.message)); // the page works without
