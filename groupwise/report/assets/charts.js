"use strict";

// The charts of all sections. ECharts draws lines and axes; pointing, keys and read-outs are here, one position for all.
(() => {
  const ROLES = { main: "c1", second: "c2", third: "c3", fourth: "c4", reference: "reference" };
  const DASHES = ["solid", "dashed", "dotted"];
  const state = { smoothing: 1, range: null, step: null };
  const figures = new Map(); // by their elements, in the order of the page

  // Values by a Gaussian window of about a fortieth of the run, times `strength`; gaps stay gaps.
  function smooth(values, strength) {
    const width = (Math.max(values.length, 20) / 40) * strength;
    const reach = Math.ceil(width * 3);
    const weights = Array.from({ length: reach + 1 }, (_, d) => Math.exp(-0.5 * (d / width) ** 2));
    return values.map((value, at) => {
      if (value === null) return null;
      let sum = 0, total = 0;
      for (let i = Math.max(0, at - reach); i <= Math.min(values.length - 1, at + reach); i++) {
        if (values[i] === null) continue;
        const weight = weights[Math.abs(i - at)];
        sum += weight * values[i];
        total += weight;
      }
      return sum / total;
    });
  }

  const isSmoothed = (chart, line) =>
    state.smoothing > 0 && !line.points && !chart.stacked && !chart.settled && line.values.filter((v) => v !== null).length >= 8;

  // [step, value] pairs inside the range that is looked at.
  function pairs(chart, values) {
    const all = chart.steps.map((step, i) => [step, values[i]]);
    const [low, high] = state.range ?? [-Infinity, Infinity];
    return all.filter(([step, value]) => step >= low && step <= high && (chart.stacked || value !== null));
  }

  function series(figure) {
    const { chart } = figure;
    const out = [];
    chart.lines.forEach((line, i) => {
      if (figure.hidden.has(i)) return;
      const colour = GW.colour(ROLES[line.role]);
      const dash = DASHES[Math.floor(chart.lines.slice(0, i).filter((l) => l.role === line.role).length) % 3];
      const common = { type: "line", silent: true, animation: false, color: colour, connectNulls: true, z: 3 + (line.role !== "reference") };
      const smoothed = isSmoothed(chart, line);
      const few = pairs(chart, line.values).length === 1;
      if (chart.stacked) {
        out.push({ ...common, stack: "all", data: pairs(chart, line.values), symbol: "none", lineStyle: { width: 0 }, areaStyle: { color: colour, opacity: 0.75 } });
        return;
      }
      if (smoothed && !chart.small) {
        out.push({ ...common, data: pairs(chart, line.values), symbol: "none", lineStyle: { width: 1, opacity: 0.28 } });
      }
      out.push({
        ...common,
        data: pairs(chart, smoothed ? smooth(line.values, state.smoothing) : line.values),
        symbol: line.points || few ? "circle" : "none",
        symbolSize: chart.small ? 4 : 6,
        lineStyle: { width: line.role === "reference" ? 1.2 : 2, type: dash },
      });
    });
    if (chart.limit && out.length && limitFits(chart)) {
      out[0].markLine = {
        silent: true, symbol: "none", animation: false,
        lineStyle: { color: GW.colour("muted"), type: "dashed", width: 1 },
        label: { formatter: `${chart.limit[0]} ${GW.number(chart.limit[1])}`, position: "insideStartTop", color: GW.colour("muted"), fontSize: 10 },
        data: [{ yAxis: chart.limit[1] }],
      };
    }
    return out;
  }

  // A limit far above all values would flatten the curve.
  function limitFits(chart) {
    const highest = Math.max(...chart.lines.flatMap((line) => line.values.filter((v) => v !== null)));
    return chart.limit[1] <= 2.5 * highest;
  }

  function option(figure) {
    const { chart } = figure;
    const muted = GW.colour("muted");
    const label = { color: muted, fontSize: 11, fontFamily: "inherit" };
    const [first, last] = state.range ?? [chart.steps[0], chart.steps.at(-1)];
    const [low, high] = chart.bounds;
    return {
      animation: false,
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
      grid: { left: chart.small ? 34 : 46, right: 12, top: 10, bottom: 22 },
      xAxis: {
        type: "value", min: first, max: Math.max(last, first + 1), splitNumber: chart.small ? 2 : 4, minInterval: 1,
        axisLabel: { ...label, hideOverlap: true, formatter: (v) => (v >= 1e4 ? `${v / 1000}k` : String(v)) },
        axisLine: { lineStyle: { color: GW.colour("line") } }, axisTick: { show: false }, splitLine: { show: false },
      },
      yAxis: {
        type: chart.log ? "log" : "value", scale: low === null, splitNumber: chart.small ? 2 : 3,
        min: chart.log ? undefined : low ?? undefined,
        max: chart.log || high === null ? (limitOnTop(chart) ?? undefined) : high,
        interval: low !== null && high !== null ? (high - low) / (chart.small ? 2 : 4) : undefined,
        axisLabel: { ...label, formatter: (v) => (chart.format === "share" ? `${GW.number(v * 100)}%` : GW.number(v)) },
        axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: GW.colour("line") } },
      },
      series: series(figure),
    };
  }

  function limitOnTop(chart) {
    if (chart.log || !chart.limit || !limitFits(chart)) return null;
    const highest = Math.max(...chart.lines.flatMap((line) => line.values.filter((v) => v !== null)));
    return highest > chart.limit[1] ? null : Number((chart.limit[1] * 1.12).toPrecision(2));
  }

  const draw = (figure) => figure.drawing?.setOption(option(figure), { notMerge: true });
  const drawAll = () => figures.forEach(draw);

  // --- read-outs: the legend holds the values at the step that is pointed at, else the last ones ---
  function nearest(steps, step) {
    let best = 0;
    steps.forEach((s, i) => {
      if (Math.abs(s - step) < Math.abs(steps[best] - step)) best = i;
    });
    return best;
  }

  // What is nothing beside the chart's other values is shown as 0.
  function show(chart, value) {
    chart.largest ??= chart.lines.flatMap((line) => line.values).reduce((most, v) => Math.max(most, Math.abs(v ?? 0)), 0);
    const nothing = Number.isFinite(value) && Math.abs(value) < 1e-6 * chart.largest; // null: not recorded
    return GW.show(nothing ? 0 : value, chart.format);
  }

  function valueAt(chart, line, step) {
    if (step === null) return line.values.findLast((v) => v !== null);
    const at = nearest(chart.steps, step);
    if (line.values[at] !== null || !line.points) return line.values[at];
    for (let i = at; i >= 0; i--) if (line.values[i] !== null) return line.values[i]; // the evaluation before
    return null;
  }

  function readOut(figure) {
    const { chart } = figure;
    figure.values.forEach((node, i) => (node.textContent = show(chart, valueAt(chart, chart.lines[i], state.step))));
    if (chart.small) {
      const { ends } = figure;
      ends.dataset.ends ??= ends.textContent;
      ends.textContent = state.step === null ? ends.dataset.ends : figure.values[0].textContent;
    }
    if (figure.whole) {
      const sum = chart.lines.reduce((t, line, i) => t + (figure.hidden.has(i) ? 0 : valueAt(chart, line, state.step) ?? 0), 0);
      figure.whole.textContent = show(chart, sum);
    }
    if (!figure.drawing) return;
    const [first, last] = state.range ?? [chart.steps[0], chart.steps.at(-1)];
    const inside = state.step !== null && state.step >= first && state.step <= last;
    figure.hair.hidden = !inside;
    if (!inside) return;
    const step = chart.steps[nearest(chart.steps, state.step)];
    const x = figure.drawing.convertToPixel({ xAxisIndex: 0 }, step);
    figure.hair.style.left = `${x}px`;
    figure.hair.dataset.step = step;
    figure.hair.classList.toggle("left", x > figure.plot.clientWidth * 0.7);
  }

  let waiting = 0;
  function point(step) {
    state.step = step;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => figures.forEach(readOut));
  }

  const stepAt = (figure, x) => {
    const step = figure.drawing.convertFromPixel({ xAxisIndex: 0 }, x);
    return figure.chart.steps[nearest(figure.chart.steps, step)];
  };

  // --- pointing and dragging ---
  function listen(figure) {
    const { plot } = figure;
    const place = (event) => event.clientX - plot.getBoundingClientRect().left;
    let start = null;
    plot.addEventListener("pointermove", (event) => {
      point(stepAt(figure, place(event)));
      if (start === null) return;
      const x = place(event);
      figure.brush.hidden = Math.abs(x - start) < 6;
      figure.brush.style.left = `${Math.min(x, start)}px`;
      figure.brush.style.width = `${Math.abs(x - start)}px`;
    });
    plot.addEventListener("pointerdown", (event) => {
      point(stepAt(figure, place(event)));
      if (event.pointerType !== "mouse" || event.button !== 0) return; // a finger scrolls the page
      start = place(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const ends = [start, place(event)].sort((a, b) => a - b);
      start = null;
      figure.brush.hidden = true;
      if (ends[1] - ends[0] >= 6) look(ends.map((x) => stepAt(figure, x)));
    });
    plot.addEventListener("pointercancel", () => { start = null; figure.brush.hidden = true; });
    plot.addEventListener("pointerleave", () => point(null));
    plot.addEventListener("dblclick", () => look(null));
    plot.addEventListener("blur", () => point(null));
    plot.addEventListener("keydown", (event) => {
      const { steps, lines } = figure.chart;
      const at = state.step === null ? steps.length - 1 : nearest(steps, state.step);
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1 }[event.key];
      if (event.key === "Escape") look(null);
      if (to === undefined) return;
      event.preventDefault();
      const step = steps[Math.min(steps.length - 1, Math.max(0, to))];
      point(step);
      const said = lines.map((line) => `${line.label} ${show(figure.chart, valueAt(figure.chart, line, step))}`);
      document.getElementById("curve-said").textContent = `update ${step}: ${said.join(", ")}`;
    });
  }

  function look(range) {
    state.range = range && range[1] > range[0] ? range : null;
    document.getElementById("whole-run").hidden = state.range === null;
    drawAll();
  }

  // --- building ---
  function legend(figure) {
    const { chart, box } = figure;
    const place = box.querySelector(".legend");
    figure.values = chart.lines.map(() => GW.element("b"));
    if (chart.small) return; // its title names it, its ends stand beside it
    if (chart.lines.length === 1) {
      const swatch = GW.element("span", { class: `swatch ${chart.lines[0].role}` });
      place.append(GW.element("span", { class: "only" }, swatch, chart.lines[0].label, figure.values[0]));
      return;
    }
    chart.lines.forEach((line, i) => {
      const button = GW.element(
        "button",
        { type: "button", "aria-pressed": "true", title: `show or hide ${line.label}` },
        GW.element("span", { class: `swatch ${line.role}` }), line.label, figure.values[i],
      );
      button.addEventListener("click", () => {
        const hide = !figure.hidden.has(i);
        figure.hidden[hide ? "add" : "delete"](i);
        button.setAttribute("aria-pressed", String(!hide));
        draw(figure);
        readOut(figure);
      });
      place.append(button);
    });
    if (chart.stacked) {
      figure.whole = GW.element("b");
      place.append(GW.element("span", { class: "whole" }, "together", figure.whole));
    }
  }

  function table(figure) {
    const { chart, box } = figure;
    const details = box.querySelector(".numbers");
    details?.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (!details.open || place.hasChildNodes()) return;
      const count = Math.min(12, chart.steps.length);
      const picked = Array.from({ length: count }, (_, i) => Math.round((i * (chart.steps.length - 1)) / Math.max(1, count - 1)));
      const head = ["update", ...chart.lines.map((line) => line.label)].map((text) => GW.element("th", { scope: "col" }, text));
      const rows = picked.map((i) =>
        GW.element(
          "tr", {}, GW.element("th", { scope: "row" }, String(chart.steps[i])),
          ...chart.lines.map((line) => GW.element("td", {}, show(chart, line.values[i]))),
        ),
      );
      place.append(GW.element("table", {}, GW.element("thead", {}, GW.element("tr", {}, ...head)), GW.element("tbody", {}, ...rows)));
    });
  }

  function build(figure) {
    if (figure.drawing) return;
    figure.drawing = echarts.init(figure.canvas, null, { renderer: "canvas" });
    draw(figure);
    listen(figure);
    readOut(figure);
    new ResizeObserver(() => { figure.drawing.resize(); readOut(figure); }).observe(figure.plot);
  }

  // A chart is drawn when it comes near the screen.
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      seen.unobserve(entry.target);
      build(figures.get(entry.target));
    }),
    { rootMargin: "400px" },
  );

  const data = {}; // by section
  document.querySelectorAll("[data-chart]").forEach((box) => {
    const { id } = box.closest("section");
    const charts = (data[id] ??= GW.data(id));
    const plot = box.querySelector(".plot");
    const figure = {
      box, plot, ends: box.querySelector(".ends"), chart: charts[Number(box.dataset.chart)], drawing: null, hidden: new Set(),
      canvas: GW.element("div", { class: "canvas" }),
      hair: GW.element("div", { class: "hair", hidden: true }),
      brush: GW.element("div", { class: "brush", hidden: true }),
    };
    plot.append(figure.canvas, figure.brush, figure.hair);
    figures.set(box, figure);
    legend(figure);
    table(figure);
    readOut(figure);
    seen.observe(box);
  });

  document.querySelectorAll("[name=smoothing]").forEach((input) =>
    input.addEventListener("change", () => { state.smoothing = Number(input.value); drawAll(); }),
  );
  document.getElementById("whole-run").addEventListener("click", () => look(null));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
