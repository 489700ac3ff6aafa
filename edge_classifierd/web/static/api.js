// Requests to the device. All addresses are relative to the page, so that it works below any prefix.
import { T } from "./text.js?v=__BUILD__";

export class ApiError extends Error {
  constructor(status, error, retryAfter) {
    super(error.message ?? `The device answered with status ${status}.`);
    this.status = status;
    this.code = error.code ?? "";
    this.problems = error.problems ?? [];
    this.retryAfter = retryAfter;
  }
}

let signIn = null;
/** Set what asks for the password when a session is over; it resolves when the user has signed in. */
export const onSignedOut = (ask) => (signIn = ask);

const path = (parts) => ["api", ...parts.map(encodeURIComponent)].join("/");
/** Return the relative address of an API route; `query` leaves out what is null or empty. */
export function address(parts, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return path(parts) + (set.length ? `?${new URLSearchParams(set)}` : "");
}

/** Send a request; raise ApiError for a refusal. `raw` returns the response itself. */
export async function request(method, url, { body, signal, raw = false, ask = true } = {}) {
  const options = { method, signal, cache: "no-store" };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) Object.assign(options, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "link", message: T.refused });
  }
  if (response.ok) return raw || response.status === 204 ? response : response.json();
  if (response.status === 401 && ask && signIn) {
    await signIn();
    if (method === "GET") return request(method, url, { body, signal, raw, ask });
    throw new ApiError(401, { code: "sign_in", message: T.signedInAgain });
  }
  const document = await response.json().catch(() => ({}));
  throw new ApiError(response.status, document.error ?? {}, Number(response.headers.get("Retry-After")) || 0);
}

export const get = (parts, query, options) => request("GET", address(parts, query), options);
export const put = (parts, value) => request("PUT", address(parts), { body: { value } });
export const post = (parts, body, options = {}) => request("POST", address(parts), { body, ...options });
export const remove = (parts) => request("DELETE", address(parts));
