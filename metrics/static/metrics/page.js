/** On every page: refreshes the numbers that counters keep when the server says they changed, and draws the charts. */

import { load } from "../backoffice/loading.js";

async function start() {
  const parts = document.querySelectorAll("[data-figures]");
  const list = document.querySelector("[data-list]");
  if (parts.length || list) {
    const numbers = await load(import("./numbers.js"));
    parts.forEach((part) => numbers && new numbers.LivePart(part).start());
    if (numbers && list) new numbers.LiveCells(list).start();
  }
  const figures = document.querySelectorAll("[data-chart]");
  if (!figures.length) return;
  const charts = await load(import("./chart.js"));
  figures.forEach((figure) => charts?.chartOf(figure));
}

start();
