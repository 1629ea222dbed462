// Questions to the service that this page came from, and the token if it asks for one.

const KEPT = "fusionrec-token";
const SENDABLE = /^[\x20-\x7e]+$/; // in a header; whatever else was pasted is no token

const BEING_MADE = "urn:fusionrec:being-made";

export class Problem extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/** What is told that an answer waits for something that is being made: (text) => …, null when it does no more. */
export const making = { show: () => {} };

/** Wait, and say what for; nothing is said of what nobody waits for any more. */
async function waiting(text, seconds, signal) {
  making.show(text);
  await new Promise((resolve) => {
    setTimeout(resolve, 1000 * (Number(seconds) || 1));
    signal?.addEventListener("abort", resolve, { once: true });
  });
}

let asking = null;

function askForToken(refused) {
  const dialog = document.getElementById("token");
  const input = document.getElementById("token-text");
  asking ??= new Promise((resolve) => {
    input.value = "";
    dialog.returnValue = "";
    document.getElementById("token-wrong").hidden = !refused;
    dialog.addEventListener(
      "close",
      () => {
        const given = dialog.returnValue === "use" ? input.value.trim() : ""; // not by Escape
        input.value = "";
        if (given) sessionStorage.setItem(KEPT, given);
        asking = null;
        resolve(Boolean(given));
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
    let response = null;
    try {
      if (!token || SENDABLE.test(token)) response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("The service does not answer: is it still running?");
    }
    if (response?.ok) return response;
    if (!response || response.status === 401) {
      if (token === sessionStorage.getItem(KEPT)) sessionStorage.removeItem(KEPT);
      if (await askForToken(Boolean(token))) continue;
      throw new Problem("The service asks for a token. Load the page again to give one.");
    }
    const said = await response.json().catch(() => ({}));
    if (said.type === BEING_MADE) {
      await waiting(said.detail, response.headers.get("Retry-After"), options.signal);
      continue;
    }
    throw new Problem(said.detail ?? `The service answered ${response.status}.`, response.status);
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
