/** The tree below this node: what is wrong in words, and a picture of nodes and lines. */

import { ask, bitrate, byId, has, number, t, tn } from "./page.js";

const POLL_EVERY_MS = 2000;
const SVG = byId("tree").namespaceURI;
const BOX = { width: 250, height: 84, across: 430, down: 108, margin: 4 };
// Findings about a node's line to the node above; the others are about the node itself.
const ABOUT_THE_LINE = new Set([
  "line_loss", "line_loss_repaired", "line_silent", "line_jitter", "line_slow", "parent_gone",
  "no_answer",
]);
const ICONS = { bad: "broken", warn: "warn", fine: "live" };
const RANK = { fine: 0, warn: 1, bad: 2 };

let last = null;

/* ---- words ---- */

/** A finding as a sentence; a code that this page does not know yet shows itself. */
function sentence({ code, values }) {
  const written = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name, typeof value === "number" ? number(value, Number.isInteger(value) ? 0 : 1) : value,
    ]),
  );
  return has(`tree.finding.${code}`) ? t(`tree.finding.${code}`, written) : code;
}

function showFindings(findings) {
  const list = byId("findings");
  const rows = findings.map((one) => [one.severity, sentence(one)]);
  const key = JSON.stringify(rows);
  // Read out only when it changes.
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(
    ...rows.map(([severity, words]) => {
      const item = document.createElement("li");
      item.className = "finding";
      item.dataset.severity = severity;
      const text = document.createElement("span");
      text.textContent = words;
      item.append(icon(ICONS[severity] ?? "warn"), text);
      return item;
    }),
  );
}

function icon(name) {
  const svg = element("svg", { class: "icon", "aria-hidden": "true", focusable: "false" });
  svg.append(element("use", { href: `#i-${name}` }));
  return svg;
}

/* ---- picture ---- */

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text) made.textContent = text;
  return made;
}

/** Cut a text to a width; a Chinese character is as wide as two letters. */
function cut(text, columns) {
  let taken = 0;
  let kept = "";
  for (const one of text) {
    taken += one.codePointAt(0) > 0x2e80 ? 2 : 1;
    if (taken > columns) return `${kept.slice(0, -1)}…`;
    kept += one;
  }
  return kept;
}

/** Give every node its place: a column for each level, a row for each node without children. */
function place(node, level, rows, placed) {
  const below = (node.below ?? []).map((child) => place(child, level + 1, rows, placed));
  const row = below.length ? (below[0].row + below.at(-1).row) / 2 : rows.next++;
  const one = { node, level, row, below };
  placed.push(one);
  return one;
}

function worst(findings, id, wanted) {
  let found = "";
  for (const { node, severity, code } of findings) {
    if (node === id && wanted(code) && (!found || RANK[severity] > RANK[found])) found = severity;
  }
  return found;
}

const x = (one) => BOX.margin + one.level * BOX.across;
const y = (one) => BOX.margin + one.row * BOX.down;

function drawNode(one, findings) {
  const { node } = one;
  const answers = Array.isArray(node.streams);
  const severity = answers ? worst(findings, node.id, (c) => !ABOUT_THE_LINE.has(c)) : "bad";
  const group = element("g", {
    transform: `translate(${x(one)} ${y(one)})`, "data-severity": severity || "fine",
  });
  const tier = has(`tier.${node.tier}`) ? t(`tier.${node.tier}`) : (node.tier ?? "");
  const name = tier && tier !== node.name ? `${node.name} · ${tier}` : node.name;
  const facts = answers
    ? [tn("tree.viewers", node.viewers ?? 0),
      t("tree.cpu", { percent: number(100 * (node.load?.cpu ?? 0)) }),
      node.workers ? t("tree.processes", { n: node.workers.length }) : ""]
    : [t("tree.silent")];
  const streams = (node.streams ?? []).map(
    (s) => `${s.name} ${has(`tree.state.${s.state}`) ? t(`tree.state.${s.state}`) : s.state}`,
  );
  group.append(
    element("title", {}, [name, ...facts, ...streams].join("\n")),
    element("rect", { width: BOX.width, height: BOX.height, rx: 10 }),
    element("text", { x: 14, y: 26, class: "name" }, cut(name, 26)),
    element("text", { x: 14, y: 49 }, cut(facts.filter(Boolean).join(" · "), 34)),
    element("text", { x: 14, y: 70, class: "soft" },
      cut(streams.join(", ") || (answers ? t("tree.idle") : ""), 34)),
  );
  return group;
}

/** What goes over the line to the node above, and how the line is. */
function lineWords(node) {
  const pulled = (node.streams ?? []).filter(({ source }) => source === "parent");
  const pushed = (node.streams ?? []).filter((one) => one.pushed);
  const sum = (streams) => streams.reduce((all, one) => all + (one.bitrate_in_bps ?? 0), 0);
  const loss = Math.max(0, ...pulled.flatMap(
    ({ tracks }) => (tracks ?? []).map((one) => one.loss_percent ?? 0)));
  const words = [];
  if (pulled.length) words.push(`↓ ${bitrate(sum(pulled))}`);
  if (pushed.length) words.push(`↑ ${bitrate(sum(pushed))}`);
  const state = [];
  if (pulled.length) state.push(t("tree.lost", { percent: number(loss, 1) }));
  const rtt = pulled[0]?.rtt_ms || node.parent_rtt_ms;
  if (rtt) state.push(`${number(rtt, rtt < 10 ? 1 : 0)} ms`);
  return [words.join("  "), state.join(" · ")];
}

function drawLine(above, one, findings) {
  const from = { x: x(above) + BOX.width, y: y(above) + BOX.height / 2 };
  const to = { x: x(one), y: y(one) + BOX.height / 2 };
  const middle = (from.x + to.x) / 2;
  const severity = worst(findings, one.node.id, (code) => ABOUT_THE_LINE.has(code)) || "fine";
  const [carries, state] = lineWords(one.node);
  const label = { x: middle, class: "line" };
  return [
    element("path", {
      d: `M${from.x} ${from.y}C${middle} ${from.y} ${middle} ${to.y} ${to.x} ${to.y}`,
      "data-severity": severity,
    }),
    element("text", { ...label, y: to.y - 8 }, carries),
    element("text", { ...label, y: to.y + 17 }, state),
  ];
}

function drawTree(tree) {
  const placed = [];
  const rows = { next: 0 };
  place(tree, 0, rows, placed);
  const findings = tree.findings ?? [];
  const depth = Math.max(...placed.map(({ level }) => level));
  const width = depth * BOX.across + BOX.width + 2 * BOX.margin;
  const height = rows.next * BOX.down - (BOX.down - BOX.height) + 2 * BOX.margin;
  const svg = byId("tree");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.replaceChildren(
    ...placed.flatMap((one) => one.below.flatMap((child) => drawLine(one, child, findings))),
    ...placed.map((one) => drawNode(one, findings)),
  );
}

async function poll() {
  if (document.hidden) return;
  const tree = await ask("/api/tree", 6000);
  if (tree === null) {
    showFindings([{ code: "silent", severity: "bad", values: {} }]);
    return;
  }
  last = tree;
  showFindings(tree.findings ?? []);
  drawTree(tree);
}

window.terraceStats = () => ({ findings: last?.findings ?? [], tree: last });
window.terrace = Object.freeze({ page: "tree", stats: window.terraceStats });

document.addEventListener("visibilitychange", poll);

/** One question after the other: a tree with a dead node in it takes its time to answer. */
async function run() {
  await poll();
  setTimeout(run, POLL_EVERY_MS);
}

run();
