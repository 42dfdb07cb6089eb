"use strict";

// The browser of rollouts. All texts were generated, so they only ever become text nodes.
(() => {
  const { groups, advantage_full: full } = GW.data("rollouts");
  const PAGE = { groups: 6, singles: 12 };
  const state = { page: 0 };
  const find = (id) => document.getElementById(id);
  const rollouts = groups.flatMap((group) => group.members.map((member) => Object.assign(member, { group })));

  // --- filtering and sorting ---
  const haystack = (r) =>
    (r.hay ??= [r.group.prompt, r.completion, r.group.answer ?? "", r.dropped ?? ""].join("\n").toLowerCase());

  function wishes() {
    return {
      text: find("f-text").value.trim().toLowerCase(),
      task: find("f-task").value,
      outcome: find("f-outcome").value,
      from: Number(find("f-from").value || -Infinity),
      to: Number(find("f-to").value || Infinity),
      sort: find("f-sort").value,
      view: document.querySelector("[name=view]:checked").value,
      raw: find("f-raw").checked,
    };
  }

  const fits = (r, w) =>
    (!w.task || r.group.task === w.task) &&
    (!w.outcome || (w.outcome === "cut" ? r.finish === "length" : r.outcome === w.outcome)) &&
    r.group.step >= w.from && r.group.step <= w.to &&
    (!w.text || haystack(r).includes(w.text));

  const ORDERS = {
    step: (r) => [r.group.step, r.rollout],
    high: (r) => [-(r.advantage ?? -Infinity), r.group.step],
    low: (r) => [r.advantage ?? Infinity, r.group.step],
    length: (r) => [-(r.length ?? 0), r.group.step],
  };

  function ordered(list, sort) {
    const key = ORDERS[sort];
    return list
      .map((r) => [key(r), r])
      .sort(([a], [b]) => a[0] - b[0] || a[1] - b[1])
      .map(([, r]) => r);
  }

  // --- texts ---
  // A string as nodes, with every `needle` marked.
  function marked(text, needle) {
    if (!needle) return [text];
    const nodes = [];
    const lower = text.toLowerCase();
    let at = 0;
    for (let hit; (hit = lower.indexOf(needle, at)) >= 0; at = hit + needle.length) {
      nodes.push(text.slice(at, hit), GW.element("mark", {}, text.slice(hit, hit + needle.length)));
    }
    return [...nodes, text.slice(at)];
  }

  // A completion as [kind, text] parts: what it thought, what it answered, what stands outside the tags.
  function parts(text) {
    const out = [];
    let rest = text;
    const early = rest.search(/<\/think>/i); // the template may have opened the thought
    if (early >= 0 && !/<think>/i.test(rest.slice(0, early))) {
      out.push(["think", rest.slice(0, early)]);
      rest = rest.slice(early + "</think>".length);
    }
    const tag = /<(think|answer)>([\s\S]*?)(?:<\/\1>|$)/gi;
    let at = 0;
    for (const hit of rest.matchAll(tag)) {
      out.push(["text", rest.slice(at, hit.index)], [hit[1].toLowerCase(), hit[2]]);
      at = hit.index + hit[0].length;
    }
    out.push(["text", rest.slice(at)]);
    return out.map(([kind, part]) => [kind, part.replace(/^\n+|\s+$/g, "")]).filter(([, part]) => part);
  }

  const answerOf = (r) => parts(r.completion).findLast(([kind]) => kind === "answer")?.[1];

  function completion(r, w) {
    if (!r.completion) return GW.element("p", { class: "faint" }, "an empty completion");
    if (w.raw) return GW.element("pre", { class: "part text" }, ...marked(r.completion, w.text));
    const made = parts(r.completion).map(([kind, text]) =>
      GW.element("div", { class: `part ${kind}` }, kind === "text" ? null : GW.element("span", { class: "tag" }, kind), GW.element("pre", {}, ...marked(text, w.text))),
    );
    return GW.element("div", { class: "completion" }, ...made);
  }

  // --- pieces ---
  function advantage(r) {
    const strength = Math.min(1, Math.abs(r.advantage ?? 0) / full);
    const sign = r.advantage > 0 ? "plus" : r.advantage < 0 ? "minus" : "zero";
    const shown = r.advantage === null || r.outcome === "dropped" ? "–" : (r.advantage > 0 ? "+" : "") + r.advantage.toFixed(2).replace("-", "−");
    const node = GW.element("span", { class: `advantage ${sign}`, title: "advantage" }, shown);
    node.style.setProperty("--strength", `${Math.round(strength * 100)}%`);
    return node;
  }

  const SIGNS = { right: "✓", wrong: "✗", dropped: "⊘" };
  const outcome = (r) => GW.element("span", { class: `outcome ${r.outcome}` }, `${SIGNS[r.outcome]} `, GW.element("span", { class: "word" }, r.outcome));

  function facts(r) {
    const rewards = Object.entries(r.rewards).map(([name, value]) => GW.element("span", { class: "reward" }, `${name} `, GW.element("b", {}, GW.number(value))));
    const several = Object.keys(r.rewards).length > 1 && r.reward !== null;
    return GW.element(
      "span", { class: "facts-line" },
      several ? GW.element("span", { class: "reward" }, "reward ", GW.element("b", {}, GW.number(r.reward))) : null,
      ...rewards,
      GW.element("span", {}, `${r.length ?? "?"} tokens`),
      r.finish === "length" ? GW.element("span", { class: "flag" }, "cut at the limit") : GW.element("span", {}, r.finish ?? ""),
      r.logprob === null ? null : GW.element("span", {}, `log-prob ${GW.number(r.logprob)}`),
      r.discarded ? GW.element("span", { class: "flag" }, "discarded: its group has no variance") : null,
    );
  }

  const reason = (r) => (r.dropped ? GW.element("p", { class: "reason" }, `dropped: ${r.dropped}`) : null);

  function question(group, w) {
    return [
      GW.element("pre", { class: "prompt" }, ...marked(group.prompt, w.text)),
      group.answer === null ? null : GW.element("p", { class: "expected" }, "expected answer ", GW.element("code", {}, ...marked(group.answer, w.text))),
    ];
  }

  const origin = (group) => [
    GW.element("b", {}, group.task), GW.element("span", {}, `update ${group.step}`),
    group.domain ? GW.element("span", {}, group.domain) : null,
    group.difficulty ? GW.element("span", {}, group.difficulty) : null,
  ];

  // --- cards ---
  function sibling(r, w, matches) {
    const said = answerOf(r) ?? r.completion.trim().split("\n").at(-1) ?? "";
    const brief = said.length > 90 ? `${said.slice(0, 90)}…` : said;
    const row = GW.element(
      "details", { class: `sibling${matches ? "" : " faded"}` },
      GW.element("summary", {}, advantage(r), outcome(r), GW.element("span", { class: "brief" }, ...marked(brief, w.text)), GW.element("span", { class: "length" }, `${r.length ?? "?"} tok`)),
    );
    row.fill = () => {
      if (row.children.length === 1) row.append(GW.element("div", { class: "body" }, completion(r, w), reason(r), facts(r)));
    };
    row.addEventListener("toggle", row.fill);
    return row;
  }

  function groupCard(group, w, matching) {
    const members = [...group.members].sort((a, b) => (b.advantage ?? 0) - (a.advantage ?? 0) || a.rollout - b.rollout);
    const right = group.members.filter((m) => m.outcome === "right").length;
    const rows = members.map((m) => sibling(m, w, matching.has(m)));
    const all = GW.element("button", { type: "button", class: "open-all" }, "open all");
    all.addEventListener("click", () => {
      const open = rows.some((row) => !row.open);
      rows.forEach((row) => { row.fill(); row.open = open; });
      all.textContent = open ? "close all" : "open all";
    });
    return GW.element(
      "article", { class: "card" },
      GW.element("header", {}, ...origin(group), GW.element("span", { class: "right-of" }, `${right} of ${members.length} right`)),
      ...question(group, w).filter(Boolean),
      GW.element("div", { class: "siblings" }, ...rows),
      all,
    );
  }

  function singleCard(r, w) {
    return GW.element(
      "article", { class: "card" },
      GW.element("header", {}, advantage(r), outcome(r), ...origin(r.group)),
      ...question(r.group, w).filter(Boolean), completion(r, w), reason(r), facts(r),
    );
  }

  // --- the page ---
  function render() {
    const w = wishes();
    const matching = ordered(rollouts.filter((r) => fits(r, w)), w.sort);
    const inGroups = w.view === "groups";
    const items = inGroups ? [...new Set(matching.map((r) => r.group))] : matching;
    const size = PAGE[w.view];
    const pages = Math.max(1, Math.ceil(items.length / size));
    state.page = Math.min(Math.max(0, state.page), pages - 1);
    const shown = items.slice(state.page * size, (state.page + 1) * size);
    const set = new Set(matching);
    const list = find("rollout-list");
    list.setAttribute("aria-busy", "false");
    list.replaceChildren(...shown.map((item) => (inGroups ? groupCard(item, w, set) : singleCard(item, w))));
    if (!shown.length) list.append(GW.element("p", { class: "notice" }, "No rollout fits. Reset the filters to see all."));
    const number = (n) => n.toLocaleString("en");
    find("count").textContent =
      `${number(matching.length)} ${matching.length === 1 ? "rollout fits" : "rollouts fit"}` +
      (inGroups ? `, in ${number(items.length)} ${items.length === 1 ? "group" : "groups"}` : "");
    find("page-at").textContent = `page ${state.page + 1} of ${number(pages)}`;
    find("previous").disabled = state.page === 0;
    find("next").disabled = state.page === pages - 1;
    find("pager").hidden = pages === 1;
  }

  function turn(by) {
    state.page += by;
    render();
    find("count").scrollIntoView({ block: "start" });
  }

  let waiting = 0;
  function again(delay) {
    find("rollout-list").setAttribute("aria-busy", "true");
    clearTimeout(waiting);
    waiting = setTimeout(() => { state.page = 0; render(); }, delay);
  }
  find("filters").addEventListener("input", () => again(120)); // not at every key of a fast typist
  find("filters").addEventListener("reset", () => again(0)); // the fields are reset after this event
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  find("previous").addEventListener("click", () => turn(-1));
  find("next").addEventListener("click", () => turn(1));
  render();
})();
