// Draws the page's charts with plotly, in the reader's colours and width. Everything that has a meaning (means, bands,
// ranges, labels) comes from charts.py as JSON; names in it are text, never markup.
"use strict";

(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const escaped = (text) =>
    String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;
  const hidden = new Set(); // "chart id / series name" of what the reader switched off
  const percent = (share) => `${Math.round(100 * share)} %`.replace("-", "−");
  const narrow = (element) => element.clientWidth < 640;

  const colour = (index, baseline = false) => (baseline ? css("--baseline") : css(`--c${index % 8}`));
  const faded = (hex, alpha) => {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${r},${g},${b},${alpha})`;
  };

  function layout(extra) {
    const axis = {
      gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true, ticks: "",
      tickfont: { color: css("--muted") }, title: { font: { color: css("--muted"), size: 13 }, standoff: 10 },
    };
    const { xaxis, yaxis, ...rest } = extra;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, dragmode: false,
      font: { family: getComputedStyle(document.body).fontFamily, color: css("--ink"), size: 13 },
      margin: { l: 8, r: 16, t: 12, b: 8 },
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink"), size: 13 } },
      ...rest,
      xaxis: { ...axis, ...xaxis, title: { ...axis.title, ...xaxis?.title } },
      yaxis: { ...axis, ...yaxis, title: { ...axis.title, ...yaxis?.title } },
    };
  }

  const draw = (id, traces, options) =>
    Plotly.react(id, traces, layout(options), { responsive: false, displayModeBar: false, doubleClick: false });

  // The arms' names at the ends of their lines, moved apart where they would overlap.
  function endLabels(chart, arms, range, plotHeight) {
    const pixel = (range[1] - range[0]) / plotHeight;
    const labels = arms
      .map((arm) => ({ arm, y: arm.mean.findLast((value) => value !== null) }))
      .filter(({ y }) => y !== undefined && y >= range[0] && y <= range[1])
      .sort((a, b) => a.y - b.y);
    const gap = 17 * pixel;
    labels.forEach((label, k) => { label.at = k ? Math.max(label.y, labels[k - 1].at + gap) : label.y; });
    const over = labels.length ? (labels.at(-1).at - labels.at(-1).y) / 2 : 0;
    return labels.map(({ arm, at }) => ({
      x: 1, xref: "paper", xanchor: "left", xshift: 6, y: Math.max(at - over, range[0]), yref: "y", showarrow: false,
      text: escaped(arm.name), font: { color: colour(arm.index, arm.baseline), size: 13 },
    }));
  }

  function fullRange(arms) {
    const values = arms.flatMap((arm) => [...arm.low, ...arm.high]).filter((value) => value !== null);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = 0.04 * (high - low) || 1;
    return [low - pad, high + pad];
  }

  function drawCurves(id, chart) {
    const element = document.getElementById(id);
    const axis = chosen("axis") ?? "flops";
    const arms = chart.arms.filter((arm) => !hidden.has(`${id}/${arm.name}`));
    const range = chosen("view") === "all" || !chart.range ? fullRange(chart.arms) : chart.range;
    const traces = [];
    for (const arm of arms) {
      const line = colour(arm.index, arm.baseline);
      const shared = { x: arm.x[axis], mode: "lines", type: "scatter" };
      traces.push(
        { ...shared, y: arm.low, line: { width: 0 }, hoverinfo: "skip" },
        { ...shared, y: arm.high, line: { width: 0 }, fill: "tonexty", fillcolor: faded(line, 0.15), hoverinfo: "skip" },
      );
    }
    for (const arm of arms) {
      const line = colour(arm.index, arm.baseline);
      traces.push({
        x: arm.x[axis], y: arm.mean, type: "scatter", mode: "lines+markers", name: escaped(arm.name),
        line: { color: line, width: arm.baseline ? 2.5 : 2 }, marker: { color: line, size: 4 },
        hovertemplate: `%{y:.${chart.decimals}f}`,
      });
    }
    const wide = !narrow(element);
    const height = wide ? 460 : 380;
    const longest = Math.max(...chart.arms.map((arm) => arm.name.length));
    const room = wide ? Math.min(40 + 7.5 * longest, 220) : 12;
    const end = Math.max(...chart.arms.flatMap((arm) => arm.x[axis]));
    const line = chart.target === null ? [] : [{
      type: "line", xref: "paper", x0: 0, x1: 1, y0: chart.target, y1: chart.target,
      line: { color: css("--baseline"), width: 1.5, dash: "dot" },
    }];
    draw(id, traces, {
      height, shapes: line, hovermode: "x unified",
      margin: { l: 8, r: room, t: 12, b: 8 },
      annotations: wide ? endLabels(chart, arms, range, height - 70) : [],
      xaxis: {
        title: { text: chart.axes[axis] }, range: [0, end * 1.005], tickformat: "~s", hoverformat: ".3~s",
        nticks: wide ? 10 : 5, showgrid: false, showline: true,
      },
      yaxis: { title: { text: escaped(chart.metric) }, range, nticks: 8 },
    });
    legend(id, chart.arms.map((arm) => ({ name: arm.name, colour: colour(arm.index, arm.baseline) })), () => drawCurves(id, chart));
  }

  function legend(id, entries, redraw) {
    const element = document.getElementById(`${id}-legend`);
    if (!element || entries.length < 2) return;
    const focused = document.activeElement?.dataset?.name;
    element.replaceChildren(
      ...entries.map(({ name, colour }) => {
        const button = document.createElement("button");
        const key = `${id}/${name}`;
        button.type = "button";
        button.textContent = name;
        button.dataset.name = name;
        button.style.setProperty("--series", colour);
        button.setAttribute("aria-pressed", String(!hidden.has(key)));
        button.title = "show or hide";
        button.addEventListener("click", () => {
          if (!hidden.delete(key)) hidden.add(key);
          redraw();
        });
        return button;
      }),
    );
    element.hidden = false;
    if (focused) [...element.children].find((button) => button.dataset.name === focused)?.focus();
  }

  function drawSavings(id, chart) {
    const element = document.getElementById(id);
    const wide = !narrow(element);
    const rows = chart.arms.map((arm, k) => ({ ...arm, y: chart.arms.length - 1 - k }));
    const traces = [];
    const annotations = [];
    const kinds = [
      { key: "saving", text: "text", shift: 0.16, symbol: "circle", label: "saving" },
      { key: "with_source", text: "text_with_source", shift: -0.16, symbol: "diamond-open", label: "with source" },
    ];
    const shown = rows.flatMap((arm) => kinds.flatMap(({ key }) => {
      const saving = arm[key];
      return [saving.mean, saving.low, ...saving.per_seed].filter((value) => value !== null);
    }));
    const low = Math.max(Math.min(0, ...shown) - 0.08, -1.1);
    for (const arm of rows) {
      for (const { key, text, shift, symbol, label } of kinds) {
        const saving = arm[key];
        const line = colour(arm.index);
        const seeds = saving.per_seed.filter((value) => value !== null);
        if (seeds.length > 1)
          traces.push({
            x: seeds, y: seeds.map(() => arm.y + shift), type: "scatter", mode: "markers", hoverinfo: "skip",
            marker: { symbol: "line-ns-open", size: 9, color: faded(line, 0.6), line: { width: 1.5 } },
          });
        if (saving.mean === null || saving.mean < low) {
          annotations.push({
            x: Math.max(0, low), y: arm.y + shift, xanchor: saving.mean === null ? "left" : "right", xshift: 6, showarrow: false,
            text: escaped(saving.mean === null ? arm[text] : `◂ ${label} ${arm[text]}`), font: { color: css("--muted"), size: 12 },
          });
          continue;
        }
        const interval = saving.low === null ? undefined : {
          type: "data", symmetric: false, array: [saving.high - saving.mean], arrayminus: [saving.mean - saving.low],
          color: line, thickness: 2, width: 5,
        };
        annotations.push({
          x: Math.min(saving.high ?? saving.mean, 1), y: arm.y + shift, xanchor: "left", xshift: 10, showarrow: false,
          text: percent(saving.mean), font: { color: key === "saving" ? css("--ink") : css("--muted"), size: 12 },
          bgcolor: css("--card"), borderpad: 1,
        });
        traces.push({
          x: [saving.mean], y: [arm.y + shift], type: "scatter", mode: "markers", error_x: interval,
          marker: { symbol, size: 11, color: line, line: { width: 2, color: line } },
          hovertemplate: `${escaped(arm.name)}, ${label}: ${escaped(arm[text])}<extra></extra>`,
        });
      }
    }
    const shapes = [{ type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, line: { color: css("--muted"), width: 1 } }];
    if (chart.claimed !== null) {
      shapes.push({
        type: "line", x0: chart.claimed, x1: chart.claimed, yref: "paper", y0: 0, y1: 1,
        line: { color: css("--muted"), width: 1.5, dash: "dot" },
      });
      annotations.push({
        x: chart.claimed, yref: "paper", y: 1, yanchor: "bottom", text: escaped(chart.claimed_text), showarrow: false,
        font: { color: css("--muted"), size: 12 },
      });
    }
    draw(id, traces, {
      height: 90 + 58 * rows.length, shapes, annotations, hovermode: "closest",
      margin: { l: 8, r: 24, t: 28, b: 8 },
      xaxis: { range: [low, 1.1], tickformat: ".0%", nticks: wide ? 10 : 5, title: { text: "compute saved" } },
      yaxis: {
        tickvals: rows.map((arm) => arm.y), ticktext: rows.map((arm) => escaped(arm.name)), range: [-0.6, rows.length - 0.4],
        showgrid: false, tickfont: { color: css("--ink"), size: 13 },
      },
    });
  }

  function drawRun(id, chart) {
    const element = document.getElementById(id);
    const axis = chosen("axis") ?? "step";
    const names = [...new Set(chart.series.map((series) => series.name))];
    const held = names.filter((name) => name.includes("/"));
    const hue = (name) => colour(1 + held.indexOf(name)); // what is trained on: the first colour; held-out sets: the others
    const traces = chart.series
      .filter((series) => !hidden.has(`${id}/${series.name}`))
      .map((series) => {
        const held_out = series.name.includes("/");
        const line = hue(series.name);
        return {
          x: series.x[axis], y: series.y, type: "scatter", name: escaped(series.name),
          mode: held_out || series.y.length < 3 ? "lines+markers" : "lines",
          line: { color: line, width: held_out ? 2 : 1.5 }, marker: { color: line, size: 6 },
          hovertemplate: `%{y:.4~g}<extra>${escaped(series.name)}</extra>`,
        };
      });
    const shapes = chart.borders.map((border) => ({
      type: "line", x0: border[axis], x1: border[axis], yref: "paper", y0: 0, y1: 1,
      line: { color: css("--muted"), width: 1, dash: "dot" },
    }));
    const annotations = chart.borders.map((border) => ({
      x: border[axis], yref: "paper", y: 1, xanchor: "left", yanchor: "top", xshift: 3, showarrow: false,
      text: escaped(border.stage), font: { color: css("--muted"), size: 11 },
    }));
    draw(id, traces, {
      height: element.closest(".chart:first-child") ? 360 : 260, shapes, annotations, hovermode: "x unified",
      xaxis: { title: { text: chart.axes[axis] }, tickformat: "~s", nticks: narrow(element) ? 5 : 8, showgrid: false, showline: true, rangemode: "tozero" },
      yaxis: chart.logarithmic
        ? { type: "log", nticks: 6, tickformat: "~s", title: { text: "log scale" } }
        : { nticks: 6, tickformat: "~g" },
    });
    legend(id, names.map((name) => ({ name, colour: hue(name) })), () => drawRun(id, chart));
  }

  const kinds = { curves: drawCurves, savings: drawSavings, run: drawRun };
  const drawAll = () => {
    for (const [id, chart] of Object.entries(charts)) {
      const element = document.getElementById(id);
      if (element) {
        element.querySelector(".waiting")?.remove();
        kinds[chart.kind](id, chart);
      }
    }
    document.documentElement.dataset.drawn = "yes";
  };

  async function unpackPlotly() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  unpackPlotly().then(
    () => {
      drawAll();
      for (const input of document.querySelectorAll(".choice input")) input.addEventListener("change", drawAll);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
      let width = window.innerWidth;
      let timer;
      window.addEventListener("resize", () => {
        if (window.innerWidth === width) return;
        width = window.innerWidth;
        clearTimeout(timer);
        timer = setTimeout(drawAll, 150);
      });
    },
    () => {
      for (const waiting of document.querySelectorAll(".waiting"))
        waiting.textContent = "This browser cannot draw the chart; its numbers are in the tables.";
    },
  );
})();
