"use strict";

// The map of the prompts. Texts were generated or given, so they only ever become text nodes.
(() => {
  const { points, ends } = GW.data("prompts");
  const OTHERS = 10; // the place of the groups without a colour
  const place = document.getElementById("map");
  const hidden = new Set();
  const state = { by: "group" };

  const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  function mixed(from, to, share) {
    const [a, b] = [channels(from), channels(to)];
    return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * share)).join(",")})`;
  }

  // Low rewards are orange, high ones blue, those in the middle pale.
  function rewardColour(reward) {
    if (reward === null) return GW.colour("reference");
    const share = ends[1] > ends[0] ? (reward - ends[0]) / (ends[1] - ends[0]) : 1;
    const middle = GW.colour("middle");
    return share < 0.5 ? mixed(GW.colour("loss"), middle, share * 2) : mixed(middle, GW.colour("gain"), share * 2 - 1);
  }

  const groupColour = (at) => GW.colour(at === OTHERS ? "reference" : `c${at + 1}`);

  function series() {
    const common = { type: "scatter", symbolSize: points.length > 500 ? 6 : 8, animation: false };
    if (state.by === "reward") {
      const data = points.map((point) => ({ value: [point.x, point.y], point, itemStyle: { color: rewardColour(point.reward), opacity: 0.85 } }));
      return [{ ...common, data }];
    }
    const below = [OTHERS, ...Array(OTHERS).keys()]; // small groups lie on large ones
    return below.filter((at) => !hidden.has(at)).map((at) => ({
      ...common,
      symbol: at < 5 || at === OTHERS ? "circle" : "diamond",
      symbolSize: common.symbolSize + (at >= 5 && at !== OTHERS ? 3 : 0),
      itemStyle: { color: groupColour(at), opacity: at === OTHERS ? 0.4 : 0.8 },
      data: points.filter((point) => point.place === at).map((point) => ({ value: [point.x, point.y], point })),
    }));
  }

  // Ends of both axes so that one unit is as long across as it is up.
  function frame() {
    const size = [place.clientWidth - 24, place.clientHeight - 24];
    const spans = ["x", "y"].map((axis) => {
      const values = points.map((point) => point[axis]);
      return [Math.min(...values), Math.max(...values)];
    });
    const unit = Math.max(...spans.map(([low, high], i) => (high - low) / size[i])) || 1;
    return spans.map(([low, high], i) => [(low + high - unit * size[i]) / 2, (low + high + unit * size[i]) / 2]);
  }

  function card({ data: { point } }) {
    const reward = point.reward === null ? "no reward" : `mean reward ${GW.number(point.reward)} of ${point.rollouts} ${point.rollouts === 1 ? "rollout" : "rollouts"}`;
    return GW.element(
      "div", {}, GW.element("b", {}, point.task), GW.element("span", { class: "faint" }, point.group && ` ${point.group}`),
      GW.element("p", {}, point.text), GW.element("span", { class: "faint" }, `${reward}, update ${point.step}`),
    );
  }

  function option() {
    const axes = frame().map(([min, max]) => ({ type: "value", min, max, show: false }));
    return {
      animation: false,
      grid: { left: 12, right: 12, top: 12, bottom: 12 },
      xAxis: axes[0],
      yAxis: axes[1],
      tooltip: {
        trigger: "item", confine: true, className: "tip", formatter: card, transitionDuration: 0, padding: [8, 12],
        backgroundColor: GW.colour("raised"), borderColor: GW.colour("line"), textStyle: { color: GW.colour("ink") },
      },
      series: series(),
    };
  }

  let drawing = null;
  const draw = () => drawing?.setOption(option(), { notMerge: true });

  document.querySelectorAll("#map-groups button").forEach((button) =>
    button.addEventListener("click", () => {
      const at = Number(button.dataset.place);
      const hide = !hidden.has(at);
      hidden[hide ? "add" : "delete"](at);
      button.setAttribute("aria-pressed", String(!hide));
      draw();
    }),
  );
  document.querySelectorAll("[name=colour]").forEach((input) =>
    input.addEventListener("change", () => {
      state.by = input.value;
      document.getElementById("map-groups").hidden = state.by !== "group";
      document.getElementById("map-rewards").hidden = state.by !== "reward";
      draw();
    }),
  );
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  // Drawn when it comes near the screen.
  new IntersectionObserver(
    ([entry], seen) => {
      if (!entry.isIntersecting) return;
      seen.disconnect();
      drawing = echarts.init(place, null, { renderer: "canvas" });
      draw();
      new ResizeObserver(() => { drawing.resize(); draw(); }).observe(place);
    },
    { rootMargin: "400px" },
  ).observe(place);
})();
