// A chart draws the table that belongs to it, and draws it again when that has changed.
/* global uPlot */
const drawn = new Map();

const styled = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();

function read(table) {
  const rows = [...table.tBodies[0].rows];
  const columns = table.tHead.rows[0].cells.length;
  const data = Array.from({ length: columns }, () => []);
  for (const row of rows) {
    data[0].push(Number(row.cells[0].dataset.atS));
    for (let column = 1; column < columns; column++) {
      const text = row.cells[column].dataset.v;
      data[column].push(text === "" ? null : Number(text));
    }
  }
  return data;
}

function colour(holder, kind) {
  const probe = document.createElement("span");
  probe.className = kind;
  holder.append(probe);
  const found = [styled(probe, "--c"), styled(probe, "--cs")];
  probe.remove();
  return found;
}

function words(value, unit) {
  if (value === null || value === undefined) return "–";
  const text = value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  return unit ? `${text} ${unit}` : text;
}

// The legend above the chart says what is under the pointer.
function tell(holder, at, data, names) {
  const values = holder.closest("figure").querySelectorAll("[data-value]");
  names.forEach((name, index) => {
    values[index].textContent = at === null || at === undefined ? "" : words(data[index + 1][at], holder.dataset.unit);
  });
}

// A point without neighbours has no line to be seen by.
function alone(plot, series) {
  const values = plot.data[series];
  return values.flatMap((value, at) => (value !== null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
}

// Axes without anything between them say less than a word does.
function nothing(holder) {
  const words = document.createElement("div");
  words.className = "none";
  words.textContent = "Nothing in this time";
  holder.replaceChildren(words);
}

function draw(holder) {
  const table = document.getElementById(holder.dataset.chart);
  const data = read(table);
  const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
  drawn.get(holder)?.destroy();
  drawn.delete(holder);
  if (!data.slice(1).flat().some((value) => value)) return nothing(holder);
  holder.replaceChildren();
  const kinds = holder.dataset.kinds.split(" ");
  const quiet = styled(document.documentElement, "--ink-3");
  const line = styled(document.documentElement, "--line");
  const font = `11px ${styled(document.documentElement, "--sans")}`;
  const filled = holder.hasAttribute("data-bars");
  const zone = document.body.dataset.zone;
  const options = {
    width: holder.clientWidth,
    height: 208, // the same for those beside each other, so that they stand on one line
    padding: [10, 16, 0, 0], // the last time below it is half beyond it
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), zone),
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    legend: { show: false },
    hooks: { setCursor: [(plot) => tell(holder, plot.cursor.idx, data, names)] },
    scales: { y: { range: (plot, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
    axes: [
      { stroke: quiet, font, grid: { show: false }, ticks: { show: false }, values: "{HH}:{mm}", space: 64, size: 26 },
      { stroke: quiet, font, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 52, space: 38, values: (plot, marks) => marks.map((mark) => words(mark, mark ? holder.dataset.unit : "")) },
    ],
    series: [
      { label: "", value: "{YYYY}-{MM}-{DD} {HH}:{mm}" },
      ...names.map((label, index) => {
        const [stroke, fill] = colour(holder, kinds[index]);
        return { label, stroke, width: 1.5, fill: filled && index === 0 ? fill : undefined, points: { show: true, size: 4, fill: stroke, filter: alone }, value: (plot, value) => words(value, holder.dataset.unit) };
      }),
    ],
  };
  const span = data[0].length > 1 ? data[0].at(-1) - data[0][0] : 0;
  if (span > 2 * 86400) options.axes[0].values = "{D} {MMM}";
  drawn.set(holder, new uPlot(options, data, holder));
}

export function redraw() {
  for (const [holder, chart] of drawn) {
    if (holder.isConnected) continue;
    chart.destroy();
    drawn.delete(holder);
  }
  for (const holder of document.querySelectorAll("[data-chart]")) draw(holder);
}

export function start() {
  redraw();
  document.addEventListener("hareline:refreshed", redraw);
  document.addEventListener("hareline:theme", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let timer = 0;
  addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(redraw, 150);
  });
}
