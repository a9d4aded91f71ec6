"use strict";
// Everything from packets is put in as text (textContent, attributes), never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const panel = document.getElementById("frame");
  const SVG = "http://www.w3.org/2000/svg";
  const LANE = 140, LEFT = 92, ROW = 26, TOP = 30;

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const draw = (name, attributes = {}, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const cut = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

  const octets = (dissection) => {
    if (!dissection.octets) dissection.octets = Uint8Array.from(atob(dissection.b), (c) => c.charCodeAt(0));
    return dissection.octets;
  };

  const hexDump = (dissection) => {
    const bytes = octets(dissection);
    const layerAt = new Array(bytes.length).fill("data");
    for (const [layer, from, to] of dissection.s) layerAt.fill(layer, from, to);
    const pre = make("pre", { class: "hex", tabindex: "0", "aria-label": "octets in hexadecimal and as characters" });
    for (let line = 0; line < bytes.length; line += 16) {
      pre.append(make("span", { class: "o" }, line.toString(16).padStart(4, "0") + "  "));
      for (const characters of [false, true]) {
        let run = "", layer = null;
        const flush = () => {
          if (run) pre.append(make("span", { class: "l-" + (data.colours[layer] || "data"), title: layer }, run));
          run = "";
        };
        for (let place = line; place < line + 16; place++) {
          if (place >= bytes.length) { if (!characters) { flush(); layer = null; pre.append(place % 8 === 7 ? "    " : "   "); } continue; }
          if (layerAt[place] !== layer) { flush(); layer = layerAt[place]; }
          const byte = bytes[place];
          run += characters ? (byte > 31 && byte < 127 ? String.fromCharCode(byte) : "·")
                            : byte.toString(16).padStart(2, "0") + (place % 8 === 7 ? "  " : " ");
        }
        flush();
        if (!characters) pre.append(" ");
      }
      pre.append("\n");
    }
    return pre;
  };

  const values = (number) => {
    const found = new Map();
    if (number === null) return found;
    for (const [, fields] of data.dissections[data.frames[number].d].f) for (const [name, value] of fields) found.set(name, value);
    return found;
  };

  const show = (number, focus) => {
    const frame = data.frames[number];
    if (!frame) return;
    const dissection = data.dissections[frame.d];
    const way = data.journeys[frame.j];
    const before = way[way.indexOf(number) - 1];
    const old = values(before === undefined ? null : before);
    panel.replaceChildren();
    panel.append(make("h2", {}, `Frame ${number} at ${frame.i}${frame.o ? ", " + frame.o : ""}, ${frame.t}: ${dissection.t}`));
    if (way.length > 1) {
      const chips = make("div", { class: "way", role: "group", "aria-label": "the same packet elsewhere" });
      for (const other of way) {
        const chip = make("button", { type: "button", "aria-pressed": String(other === number) }, `${other} ${data.frames[other].i}`);
        chip.addEventListener("click", () => show(other, true));
        chips.append(chip);
      }
      panel.append(chips);
    }
    for (const [layer, fields] of dissection.f) {
      const table = make("table");
      for (const [name, value] of fields) {
        const cell = make("td", {}, value);
        const was = old.get(name);
        if (was !== undefined && was !== value) cell.append(make("span", { class: "was" }, ` (was ${was})`));
        table.append(make("tr", {}, make("th", { scope: "row" }, name), cell));
      }
      const part = make("details", { class: "l-" + (data.colours[layer] || "link") }, make("summary", {}, layer), table);
      part.open = true;
      panel.append(part);
    }
    panel.append(hexDump(dissection));
    if (dissection.n > octets(dissection).length) {
      panel.append(make("p", { class: "hint" }, `${octets(dissection).length} of ${dissection.n} octets are in this page.`));
    }
    for (const arrow of document.querySelectorAll("g.arrow")) {
      arrow.classList.toggle("chosen", arrow.dataset.frames.split(" ").includes(String(number)));
    }
    if (focus) panel.focus({ preventScroll: true });
  };

  const arrowOf = (arrow, lanes, y) => {
    const x = (lane) => LEFT + LANE / 2 + lanes.indexOf(lane) * LANE;
    const from = arrow.f === null ? x(arrow.t) - 38 : x(arrow.f);
    const to = arrow.t === null ? x(arrow.f) + (arrow.r ? -46 : 46) : x(arrow.t);
    const group = draw("g", {
      class: `arrow l-${arrow.k}${arrow.x ? " lost" : ""}`, tabindex: "0", role: "button", "aria-label": arrow.a,
      "data-frames": arrow.n.join(" "),
    });
    group.append(draw("title", {}, arrow.a));
    const [low, high] = from < to ? [from, to] : [to, from];
    group.append(draw("rect", { class: "hit", x: low - 4, y: y - 16, width: Math.max(high - low, 24) + 8, height: 22, rx: 3 }));
    group.append(draw("line", { x1: from, y1: y, x2: to, y2: y }));
    const side = from < to ? -7 : 7;
    if (from === to) group.append(draw("path", { d: `M${to} ${y - 4}l5 8h-10z` }));
    else if (arrow.x) group.append(draw("path", { d: `M${to - 4} ${y - 5}l8 10 1-1-8-10zM${to + 4} ${y - 5}l-8 10-1-1 8-10z` }));
    else group.append(draw("path", { d: `M${to} ${y}l${side} -4v8z` }));
    group.append(draw("text", { class: "numbers", x: (from + to) / 2, y: y + 11 }, arrow.n.join(" → ")));
    const open = () => show(arrow.n[0], false);
    group.addEventListener("click", open);
    group.addEventListener("keydown", (event) => {
      const all = [...document.querySelectorAll("g.arrow")];
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (event.key === "Enter" || event.key === " ") open();
      else if (step) all[all.indexOf(group) + step]?.focus();
      else return;
      event.preventDefault();
    });
    return group;
  };

  const diagram = (place) => {
    const exchange = data.exchanges[place.dataset.n];
    if (!exchange || place.firstChild) return;
    const lanes = exchange.lanes;
    const x = (lane) => LEFT + LANE / 2 + lanes.indexOf(lane) * LANE;
    let y = TOP + 12, width = LEFT + lanes.length * LANE + 10;
    const svg = draw("svg", { role: "group", "aria-label": "sequence diagram" });
    const lines = draw("g"), arrows = draw("g");
    for (const arrow of exchange.arrows) {
      if (arrow.l) {
        y += 10;
        arrows.append(draw("text", { class: "time", x: 2, y: y + 3 }, arrow.m));
        const ends = [arrow.f, arrow.t].filter((lane) => lane !== null).map(x);
        const label = cut(arrow.l, 110), start = Math.min(...ends) + 6;
        arrows.append(draw("text", { class: "label", x: start, y: y - 7 }, label));
        width = Math.max(width, start + label.length * 7);
      }
      arrows.append(arrowOf(arrow, lanes, y));
      y += ROW;
    }
    for (const lane of lanes) {
      lines.append(draw("line", { class: "lane", x1: x(lane), y1: TOP - 8, x2: x(lane), y2: y }));
      const name = draw("text", { class: "name", x: x(lane), y: TOP - 14 }, cut(data.lanes[lane], 20));
      name.append(draw("title", {}, data.lanes[lane]));
      lines.append(name);
    }
    svg.setAttribute("width", width);
    svg.setAttribute("height", y);
    svg.setAttribute("viewBox", `0 0 ${width} ${y}`);
    svg.append(lines, arrows);
    place.append(svg);
  };

  for (const exchange of document.querySelectorAll("details.exchange")) {
    const place = exchange.querySelector(".diagram");
    if (!place) continue;
    if (exchange.open) diagram(place);
    exchange.addEventListener("toggle", () => { if (exchange.open) diagram(place); });
  }
  document.getElementById("story").addEventListener("click", (event) => {
    const button = event.target.closest("button.f");
    if (button) show(Number(button.dataset.f), true);
  });
  const all = (open) => () => { for (const exchange of document.querySelectorAll("details.exchange")) exchange.open = open; };
  document.getElementById("open-all").addEventListener("click", all(true));
  document.getElementById("close-all").addEventListener("click", all(false));
})();
