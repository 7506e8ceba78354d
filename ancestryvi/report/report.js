"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const config = data.config;
const points = data.points;

// plotly reads <b> and &amp; in texts: ids and labels must not be taken for either
const plain = (text) =>
  String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const canvas2d = document.createElement("canvas");
const scatter = document.createElement("canvas").getContext("webgl") ? "scattergl" : "scatter";
const size = points.id.length < 200 ? 9 : points.id.length < 2000 ? 7 : points.id.length < 20000 ? 5 : 3;

function valueOf(column, i) {
  if (column.kind === "values") return column.values[i] === null ? "–" : String(column.values[i]);
  return column.codes[i] < 0 ? "–" : column.names[column.codes[i]];
}

const hover = points.id.map((id, i) =>
  [`<b>${plain(id)}</b>`, ...data.columns.map((c) => `${plain(c.title)}: ${plain(valueOf(c, i))}`)].join("<br>"));

function trace(rows, marker, more) {
  return {
    type: scatter, mode: "markers", marker,
    x: rows.map((i) => points.x[i]), y: rows.map((i) => points.y[i]),
    text: rows.map((i) => hover[i]), hovertemplate: "%{text}<extra></extra>", ...more,
  };
}

function backgroundTraces() {
  const map = data.background;
  if (map === null) return [];
  return [{
    type: scatter, mode: "markers", x: map.x, y: map.y, name: "reference map",
    marker: { color: map.color, size: Math.min(size, 5) }, hovertemplate: "%{text}<extra></extra>",
    text: map.id.map((id, i) =>
      `reference <b>${plain(id)}</b>` + (map.codes[i] < 0 ? "" : `<br>${plain(map.names[map.codes[i]])}`)),
  }];
}

function categoryTraces(column) {
  const rows = column.names.map(() => []);
  const missing = [];
  column.codes.forEach((code, i) => (code < 0 ? missing : rows[code]).push(i));
  const traces = [];
  if (missing.length) {
    traces.push(trace(missing, { color: data.missing.color, size: size - 1 }, { name: "no label" }));
  }
  rows.forEach((members, k) => {
    const group = column.groups[k];
    traces.push(trace(members,
      { color: column.colors[k], symbol: column.symbols[k], size, opacity: 0.85 },
      {
        name: `${plain(column.names[k])} (${members.length})`, category: k,
        ...(group === null ? {} : { legendgroup: group, legendgrouptitle: { text: `<b>${plain(group)}</b>` } }),
      }));
  });
  return traces;
}

function valueTraces(column) {
  const all = points.id.map((_, i) => i);
  const known = all.filter((i) => column.values[i] !== null);
  const missing = all.filter((i) => column.values[i] === null);
  const marker = {
    color: known.map((i) => column.values[i]), size, colorscale: "Viridis", reversescale: true,
    showscale: true, colorbar: { title: { text: plain(column.title) }, thickness: 12, len: 0.6, outlinewidth: 0 },
  };
  const traces = missing.length
    ? [trace(missing, { color: data.missing.color, size: size - 1 }, { name: "no value", showlegend: false })] : [];
  return [...traces, trace(known, marker, { showlegend: false, name: plain(column.title) })];
}

const map = document.getElementById("map");
const select = document.getElementById("colour");
const showNames = document.getElementById("names");
const find = document.getElementById("find");

// Names to write: those of the visible categories, and of the reference map where they differ.
function labels(column) {
  const { names = [], medoids } = column;
  const hidden = new Set(map.data
    .filter((t) => t.category !== undefined && t.visible === "legendonly").map((t) => t.category));
  const own = names.flatMap((text, k) =>
    hidden.has(k) ? [] : [{ text, x: medoids[k][0], y: medoids[k][1], color: "#22272e" }]);
  const reference = data.background === null ? [] : data.background.names.flatMap((text, k) => {
    const [x, y] = data.background.medoids[k];
    return names.includes(text) ? [] : [{ text, x, y, color: "#858b94" }];
  });
  return [...reference, ...own];
}

// Move boxes apart, the shorter way each time, until none overlaps another.
function spread(boxes) {
  for (let round = 0, moved = true; moved && round < 200; round += 1) {
    moved = false;
    boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => {
      const dx = (a.w + b.w) / 2 - Math.abs(b.x - a.x);
      const dy = (a.h + b.h) / 2 - Math.abs(b.y - a.y);
      if (dx <= 0 || dy <= 0) return;
      moved = true;
      const [axis, depth] = dx < dy ? ["x", dx] : ["y", dy];
      const step = ((b[axis] < a[axis] ? -1 : 1) * (depth + 0.5)) / 2;
      a[axis] -= step;
      b[axis] += step;
    }));
  }
}

function annotations(column) {
  if (!showNames.checked) return [];
  const { xaxis, yaxis } = map._fullLayout;
  const pen = canvas2d.getContext("2d");
  pen.font = `bold 11px ${data.layout.font.family}`;
  const boxes = labels(column).map((label) => ({
    label, x: xaxis.l2p(label.x), y: yaxis.l2p(label.y) - 12, h: 13, w: pen.measureText(label.text).width + 4,
  }));
  spread(boxes);
  return boxes.map(({ label, ...box }) => {
    const right = box.x - xaxis.l2p(label.x);
    const down = box.y - yaxis.l2p(label.y);
    const far = Math.hypot(right, down) > 26;
    return {
      x: label.x, y: label.y, text: `<b>${plain(label.text)}</b>`, borderpad: 0,
      font: { size: 11, color: label.color }, bgcolor: "rgba(255,255,255,0.6)",
      ...(far
        ? { showarrow: true, arrowhead: 0, arrowwidth: 0.7, arrowcolor: "#858b94", ax: right, ay: down }
        : { showarrow: false, xshift: right, yshift: -down }),
    };
  });
}

function found() {
  const wanted = find.value.trim();
  const i = wanted === "" ? -1 : points.id.indexOf(wanted);
  document.getElementById("found").textContent =
    wanted !== "" && i < 0 ? `no sample “${wanted}” on this map` : "";
  return i < 0 ? [] : [trace([i],
    { color: "rgba(0,0,0,0)", size: 20, line: { color: "#d00000", width: 3 } }, { name: plain(wanted) })];
}

function draw() {
  const column = data.columns[Number(select.value)];
  const traces = column.kind === "categories" ? categoryTraces(column) : valueTraces(column);
  const title = column.groups && column.groups.every((g) => g === null) ? plain(column.title) : "";
  const layout = {
    ...data.layout, uirevision: select.value,
    legend: { ...data.layout.legend, title: { text: `<b>${title}</b>` } },
  };
  return Plotly.react(map, [...backgroundTraces(), ...traces, ...found()], layout, config).then(name);
}

function name() {
  return Plotly.relayout(map, { annotations: annotations(data.columns[Number(select.value)]) });
}

function recolour() {
  const { names = [] } = data.columns[Number(select.value)];
  showNames.checked = names.length <= data.max_names;
  return draw();
}

recolour().then(() => {
  map.on("plotly_restyle", name);
  map.on("plotly_relayout", (change) => "annotations" in change || name());
});
select.addEventListener("change", recolour);
showNames.addEventListener("change", name);
find.addEventListener("change", draw);

const quiet = { ...config, displayModeBar: false };
const small = { font: data.layout.font, margin: { l: 48, r: 8, t: 28, b: 34 }, showlegend: false };
if (data.scree !== null) {
  const { percent, used } = data.scree;
  Plotly.newPlot("scree", [{
    type: "bar", x: percent.map((_, i) => i + 1), y: percent,
    marker: { color: percent.map((_, i) => (i < used ? "#2563af" : "#c9ced6")) },
    hovertemplate: "PC %{x}: %{y:.2f} %<extra></extra>",
  }], {
    ...small, margin: { l: 48, r: 8, t: 8, b: 40 }, bargap: 0.25, xaxis: { title: { text: "PC" } },
    yaxis: { title: { text: "% of the variance" }, gridcolor: "#eceef1" },
  }, quiet);
}
data.history.forEach(({ title, values }, k) => {
  Plotly.newPlot(`history${k}`, [{
    type: "scatter", mode: values.length > 1 ? "lines" : "markers", line: { color: "#2563af", width: 1.5 },
    x: values.map((_, i) => i + 1), y: values, hovertemplate: "epoch %{x}: %{y}<extra></extra>",
  }], {
    ...small, title: { text: plain(title), font: { size: 13 }, x: 0.02, xanchor: "left", y: 0.96 },
    xaxis: { title: { text: "epoch", standoff: 4 }, showgrid: false, zeroline: false },
    yaxis: { gridcolor: "#eceef1", zeroline: false },
  }, quiet);
});
