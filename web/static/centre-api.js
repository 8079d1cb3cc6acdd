/** Asking the centre's API: the cookie says who we are, a token of the session that we ask ourselves. */

let csrf = "";

/** Keep the token of a session that was begun or asked for. */
export function keep(session) {
  csrf = session.csrf;
  return session;
}

/**
 * Ask the API.
 *
 * @param {string} path  under /api
 * @param {{method?: string, body?: object, csv?: Blob, file?: Blob, bearer?: string,
 *   signal?: AbortSignal}} how  csv, file: what is sent in place of a body, as text/csv and as what
 *   it says it is; bearer: a token in place of the session
 * @returns {Promise<{status: number, body: any, sentence: string, field: string}>}  status 0: no
 *   answer; sentence: the centre's own words when it refuses
 */
export async function call(path, { method = "GET", body, csv, file, bearer = "", signal } = {}) {
  const headers = csrf && method !== "GET" ? { "X-CSRF-Token": csrf } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (csv !== undefined) headers["Content-Type"] = "text/csv";
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (file !== undefined) headers["Content-Type"] = file.type;
  try {
    const response = await fetch(path, {
      method, headers, signal, cache: "no-store",
      body: body === undefined ? (csv ?? file) : JSON.stringify(body),
    });
    const text = await response.text();
    const isJson = (response.headers.get("Content-Type") ?? "").startsWith("application/json");
    const said = isJson && text ? JSON.parse(text) : null;
    return {
      status: response.status, body: said, sentence: said?.error ?? "", field: said?.field ?? "",
    };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { status: 0, body: null, sentence: "", field: "" };
  }
}

/** A path with a query; what is null or "" is left out. */
export function asked(path, query) {
  const pairs = Object.entries(query).filter(([, value]) => value !== null && value !== "");
  return pairs.length ? `${path}?${new URLSearchParams(pairs)}` : path;
}
