/** Elements and small pictures that the station's pages make: icons, meters, rows of columns. */

// Every page has the sprite of icons.
const SVG = document.querySelector("svg").namespaceURI;

/** An HTML element with a class, a text and children. */
export function html(name, className = "", text = "", ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  made.append(...children);
  return made;
}

/** An SVG element. */
export function svg(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== "") made.textContent = text;
  return made;
}

/** The picture called `name` of the page's sprite. */
export function icon(name) {
  const made = svg("svg", { class: "icon", "aria-hidden": "true", focusable: "false" });
  made.append(svg("use", { href: `#i-${name}` }));
  return made;
}

/** A chip: an icon and a word, and a state that colours both. */
export function chip(state, iconName, word) {
  const made = html("span", "chip", "", icon(iconName), html("span", "", word));
  made.dataset.state = state;
  return made;
}

/** Replace a list's children only if what they say has changed, so that nothing is read out twice. */
export function replaceIfChanged(list, key, make) {
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...make());
}

/**
 * Fill `place` with a meter: how much of `target` is there, with a tick at the target when more
 * than that is there.
 *
 * @param {SVGElement} place
 * @param {number} value  at least 0
 * @param {number} target  above 0
 */
export function drawMeter(place, value, target) {
  const full = Math.max(target, value);
  const share = full > 0 ? Math.min(1, Math.max(0, value) / full) : 0;
  const key = `${share.toFixed(4)} ${(target / full).toFixed(4)}`;
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.setAttribute("viewBox", "0 0 200 12");
  place.setAttribute("preserveAspectRatio", "none");
  place.replaceChildren(
    svg("rect", { class: "meter-ground", x: 0.5, y: 0.5, width: 199, height: 11, rx: 3 }),
    svg("rect", { class: "meter-value", x: 1, y: 1, width: Math.max(0, 198 * share), height: 10, rx: 2.5 }),
  );
  for (let quarter = 1; quarter < 4; quarter += 1) {
    const x = (200 * quarter * target) / (4 * full);
    place.append(svg("path", { class: "meter-tick", d: `M${x} 8V12` }));
  }
  if (value > target) {
    const x = (200 * target) / full;
    place.append(svg("path", { class: "meter-target", d: `M${x} 0V12` }));
  }
}

/**
 * Fill `place` with one column for each entry: how many came.
 *
 * @param {SVGElement} place
 * @param {{value: number|null, label: string, title: string}[]} columns  null: nobody counted
 */
export function drawColumns(place, columns) {
  const wide = 36;
  const high = 90;
  const most = Math.max(5, ...columns.map(({ value }) => value ?? 0));
  place.setAttribute("viewBox", `0 0 ${Math.max(1, columns.length) * wide} ${high + 36}`);
  place.style.setProperty("--columns", String(columns.length));
  place.replaceChildren(
    svg("path", { class: "columns-ground", d: `M0 ${high + 16.5}H${columns.length * wide}` }),
    ...columns.map(({ value, label, title }, index) => {
      const group = svg("g", { transform: `translate(${index * wide} 0)` });
      const tall = (high * (value ?? 0)) / most;
      const middle = { x: wide / 2, "text-anchor": "middle" };
      group.append(
        svg("title", {}, title),
        svg("rect", {
          class: "column", x: 7, width: wide - 14, rx: 3,
          y: 16 + high - Math.max(tall, 1), height: Math.max(tall, 1),
        }),
        svg("text", { ...middle, class: "column-value", y: 16 + high - tall - 4 },
          value === null ? "–" : String(value)),
        svg("text", { ...middle, class: "column-label", y: high + 32 }, label),
      );
      return group;
    }),
  );
}
