// All requests of the page. Failures are `Problem`s, which say what happened and what to do.

import { ofModel } from './model.js';

const STORED_KEY = 'ocelli-key';
const TOO_MANY_REQUESTS = 429;

/** What to do, by the code that the service gives. Its own `detail` says what happened. */
const ADVICE = {
  unreachable: 'See whether it runs (ocelli serve) and whether this computer reaches it, then try again.',
  unauthorized: 'Enter a key with the button “Key” at the top of the page.',
  forbidden: 'Enter a key that allows more, or ask whoever runs this service for one.',
  read_only: 'Whoever runs it can start it without --read-only.',
  busy: 'Wait a moment and try again.',
  not_ready: 'Wait until it is up again, then try once more.',
  no_model_memory: 'Whoever runs it can raise models_memory.',
  disk_full: 'Make room on the disk of the service; predictions go on meanwhile.',
  data_full: 'Delete data sets or versions that nobody needs, or raise max_data_bytes.',
  body_too_large: 'Send a smaller file; whoever runs the service can raise max_body (images) or max_upload (archives).',
  cross_site: 'Open the page under the address that the service was started with.',
  unknown_host: 'Open the page under its IP address or localhost.',
};

/** A request that failed. */
export class Problem extends Error {
  constructor({ status = 0, code = 'unreachable', detail, requestId = '' }) {
    super(detail);
    Object.assign(this, { status, code, requestId });
  }

  /** What to do; empty where the message says it already. */
  get advice() {
    const about = this.status >= 500 && this.requestId ? `The log of the service has more under ${this.requestId}.` : '';
    return ADVICE[this.code] ?? about;
  }

  static unreachable() {
    return new Problem({ detail: 'The service does not answer.' });
  }

  /** From the text of an answer that is not a success. */
  static of(status, text) {
    try {
      const { code, detail, request_id: requestId } = JSON.parse(text);
      return new Problem({ status, code, detail: sentence(detail), requestId });
    } catch {
      return new Problem({ status, code: 'unexpected', detail: `The service answered with status ${status}.` });
    }
  }
}

function sentence(text) {
  const upper = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

let current = '';
try {
  current = sessionStorage.getItem(STORED_KEY) ?? '';
} catch { /* Storage is switched off: the key lasts until the page is reloaded. */ }

/** The key of this tab; empty without one. */
export const key = () => current;

/** Keeps a key for this tab; the empty one forgets it. */
export function setKey(text) {
  current = text;
  try {
    if (text) sessionStorage.setItem(STORED_KEY, text);
    else sessionStorage.removeItem(STORED_KEY);
  } catch { /* See above. */ }
}

const credentials = () => (current ? { Authorization: `Bearer ${current}` } : {});

/** Sends a request; gives the answer if it is a success. */
async function request(path, { headers = {}, ...options } = {}) {
  let response;
  try {
    response = await fetch(ofModel(path), { ...options, headers: { ...credentials(), ...headers } });
  } catch (error) {
    throw error.name === 'AbortError' ? error : Problem.unreachable();
  }
  if (!response.ok) throw Problem.of(response.status, await response.text());
  return response;
}

/** JSON of an address. */
export const get = async (path, options) => (await request(path, options)).json();

/** Sends `body` as JSON, or nothing; gives the answer's JSON. */
export async function post(path, body, options = {}) {
  const json = body === undefined
    ? {}
    : { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } };
  return (await request(path, { method: 'POST', ...json, ...options })).json();
}

/** Sends an image; gives the answer's JSON. */
export async function postImage(path, image, options = {}) {
  const headers = { 'Content-Type': 'application/octet-stream' };
  return (await request(path, { method: 'POST', body: image, headers, ...options })).json();
}

/** Deletes what an address names; gives the answer's JSON. */
export const remove = async (path, options) => (await request(path, { method: 'DELETE', ...options })).json();

/** A file of the service, with the key. */
export const file = async (path, options) => (await request(path, options)).blob();

/** `/path?a=1` from a path and what is not null in `query`. */
export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Sends a large body and tells how far it is: `progress(sent, total)`. `fetch` cannot tell that. */
export function upload(path, body, { type, signal, progress }) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    const stop = () => sending.abort();
    sending.open('POST', ofModel(path));
    for (const [name, value] of Object.entries({ ...credentials(), 'Content-Type': type })) {
      sending.setRequestHeader(name, value);
    }
    sending.upload.onprogress = (event) => progress(event.loaded, event.total);
    sending.onabort = () => reject(new DOMException('cancelled', 'AbortError'));
    sending.onerror = () => reject(Problem.unreachable());
    sending.onload = () => {
      const { status, responseText } = sending;
      if (status >= 200 && status < 300) resolve(JSON.parse(responseText));
      else reject(Problem.of(status, responseText));
    };
    sending.onloadend = () => signal.removeEventListener('abort', stop);
    signal.addEventListener('abort', stop);
    sending.send(body);
  });
}

/**
 * Follows server-sent events until the service says that there are no more (204) or `signal` ends it. `EventSource`
 * cannot send a key in a header. A lost connection is taken up again after the last event that was seen;
 * `connected(whether)` tells of it.
 */
export async function follow(path, { signal, event, connected }) {
  let last = '';
  let pause = FIRST_PAUSE;
  while (!signal.aborted) {
    try {
      const response = await request(path, { signal, headers: last ? { 'Last-Event-ID': last } : {} });
      if (response.status === 204) return;
      connected(true);
      for await (const message of messages(response.body)) {
        last = message.id || last;
        pause = FIRST_PAUSE;
        event(message.event, JSON.parse(message.data));
      }
    } catch (problem) {
      if (signal.aborted) return;
      const passing = !problem.status || problem.status >= 500 || problem.status === TOO_MANY_REQUESTS;
      if (!passing) throw problem;
      connected(false);
    }
    await wait(pause, signal);
    pause = Math.min(2 * pause, LAST_PAUSE);
  }
}

/** Milliseconds before a lost connection is tried again: the first time, and at most. */
const FIRST_PAUSE = 500;
const LAST_PAUSE = 8000;

/** The messages of a stream of server-sent events (HTML standard, section 9.2.6). */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const message = {};
      for (const line of block.split('\n')) {
        const colon = line.indexOf(': ');
        if (colon > 0) message[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (message.data) yield message;
    }
  }
}

/** Waits, at most until `signal` ends it. */
export function wait(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
    signal?.addEventListener('abort', done);
  });
}
