// Questions to the service that this page came from, and the token if it asks for one.

const KEPT = "fusionrec-token";

export class Problem extends Error {}

let asking = null;

function askForToken() {
  const dialog = document.getElementById("token");
  const input = document.getElementById("token-text");
  asking ??= new Promise((resolve) => {
    input.value = "";
    dialog.addEventListener(
      "close",
      () => {
        if (input.value) sessionStorage.setItem(KEPT, input.value);
        asking = null;
        resolve(Boolean(input.value));
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}

async function ask(path, options) {
  for (;;) {
    const token = sessionStorage.getItem(KEPT);
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The service does not answer: is it still running?");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (token === sessionStorage.getItem(KEPT)) sessionStorage.removeItem(KEPT);
      if (await askForToken()) continue;
      throw new Problem("The service asks for a token. Load the page again to give one.");
    }
    const said = await response.json().catch(() => ({}));
    throw new Problem(said.detail ?? `The service answered ${response.status}.`);
  }
}

/** GET, with a query. */
export async function get(path, query = {}, signal) {
  const text = new URLSearchParams(query).toString();
  return (await ask(text ? `${path}?${text}` : path, { signal })).json();
}

/** GET of bytes, and the result that they are of. */
export async function bytes(path, signal) {
  const response = await ask(path, { signal });
  return { buffer: await response.arrayBuffer(), result: response.headers.get("Fusionrec-Result") };
}

/** POST of JSON. */
export async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body), signal })).json();
}
