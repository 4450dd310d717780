/** On every page: refreshes the numbers that counters keep when the server says they changed, and draws the charts. */

async function start() {
  const parts = document.querySelectorAll("[data-figures]");
  const list = document.querySelector("[data-list]");
  if (parts.length || list) {
    const { LivePart, LiveCells } = await import("./numbers.js");
    parts.forEach((part) => new LivePart(part).start());
    if (list) new LiveCells(list).start();
  }
  const figures = document.querySelectorAll("[data-chart]");
  if (!figures.length) return;
  const { chartOf } = await import("./chart.js");
  figures.forEach((figure) => chartOf(figure));
}

start().catch((error) => console.warn(error.message)); // the page works without
