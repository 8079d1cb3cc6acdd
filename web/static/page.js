/** What every page needs: its strings and data, the access token, and asking the node. */

const data = JSON.parse(document.getElementById("page-data").textContent);

export const stream = data.stream;
export const nodeName = data.node;

/** The string for `key`, its `{name}` places filled. A missing key shows itself. */
export function t(key, values = {}) {
  const text = data.strings[key] ?? key;
  return text.replace(/\{([a-z_]+)\}/g, (place, name) => String(values[name] ?? place));
}

const plural = new Intl.PluralRules(data.lang);

/** The string for `key` that fits the number `n`: `key.one` or `key.other`. */
export function tn(key, n, values = {}) {
  const form = plural.select(n) === "one" ? "one" : "other";
  return t(`${key}.${form}`, { n: number(n), ...values });
}

export function has(key) {
  return key in data.strings;
}

/** A number as people of this language write it. */
export function number(value, digits = 0) {
  return new Intl.NumberFormat(data.lang, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

/** A bitrate in words, "–" for null. */
export function bitrate(bps) {
  if (bps === null || bps === undefined) return "–";
  return bps >= 1e6 ? `${number(bps / 1e6, 2)} Mbit/s` : `${number(bps / 1e3)} kbit/s`;
}

/** Milliseconds in words, "–" for null. */
export function milliseconds(value) {
  return value === null || value === undefined ? "–" : `${number(value, value < 10 ? 1 : 0)} ms`;
}

/** The element with this id, which the template has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Show the picture called `name` in the svg element `id`. */
export function setIcon(id, name) {
  const use = byId(id).firstElementChild;
  if (use.getAttribute("href") !== `#i-${name}`) use.setAttribute("href", `#i-${name}`);
}

/** Set a text only if it changes, so that screen readers hear it once. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Fill a <dl> with rows of [term, value], reusing what is there. */
export function fillList(list, rows) {
  while (list.children.length > rows.length) list.lastElementChild.remove();
  rows.forEach(([term, value], index) => {
    let row = list.children[index];
    if (!row) {
      row = document.createElement("div");
      row.append(document.createElement("dt"), document.createElement("dd"));
      list.append(row);
    }
    setText(row.firstElementChild, term);
    setText(row.lastElementChild, value);
  });
}

const TOKEN_KEY = "terrace.token";
let tokenHere = "";

/** The access token, "" if there is none. */
export function token() {
  return tokenHere;
}

/** Use this token from now on, until the tab closes. */
export function setToken(value) {
  tokenHere = value.trim().replace(/^Bearer\s+/i, "");
  try {
    sessionStorage.setItem(TOKEN_KEY, tokenHere);
  } catch {
    // Storage may be forbidden; then the token lives as long as the page.
  }
}

/** Take a token out of the address bar, where a screenshot or a shared link would show it. */
function takeTokenFromAddress() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const found = fragment.get("token");
  if (!found) return false;
  setToken(found);
  history.replaceState(history.state, "", location.pathname + location.search);
  return true;
}

if (!takeTokenFromAddress()) {
  try {
    tokenHere = sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    tokenHere = "";
  }
}

/**
 * Wire the "paste a token" form, and a new `#token=` put in the address bar.
 *
 * @param {() => void} changed  called when there is a new token
 * @returns {(visible: boolean) => void}  shows or hides the form
 */
export function tokenForm(changed) {
  const form = byId("token-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!form.token.value.trim()) return;
    setToken(form.token.value);
    form.token.value = "";
    form.hidden = true;
    changed();
  });
  addEventListener("hashchange", () => {
    if (takeTokenFromAddress()) changed();
  });
  return (visible) => {
    if (form.hidden !== visible) return;
    form.hidden = !visible;
    if (visible) form.token.focus({ preventScroll: true });
  };
}

/**
 * Ask the node for JSON. Another node, where `path` is a whole URL, is not shown the token.
 *
 * @returns {Promise<object|null>}  null if it does not answer well in `timeoutMs`
 */
export async function ask(path, timeoutMs = 3000) {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), timeoutMs);
  try {
    const own = new URL(path, location.href).origin === location.origin;
    const headers = tokenHere && own ? { Authorization: `Bearer ${tokenHere}` } : {};
    const response = await fetch(path, { headers, signal: deadline.signal, cache: "no-store" });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/** This stream's entry in what `/api/node` said, null if it is not there. */
export function streamIn(node, name = stream) {
  return node?.streams?.find((one) => one.name === name) ?? null;
}
