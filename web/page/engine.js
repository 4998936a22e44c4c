'use strict';

/**
 * Runs the model behind a port: a worker's global object, or the end of a channel. Its text is the program of the worker, so
 * it refers to nothing outside of itself.
 *
 * Requests are `{ id, kind, .. }`: `load` with `program` and `model`, deflated and in base64; `file` with the `bytes` of
 * an image file; `pixels` with the `bytes` of a canvas, `width` and `height`. Answers are `{ id, value, decoding, network }`,
 * the last two in milliseconds, or `{ id, error }`.
 */
function engine(port) {
  let compiled;
  let model;
  let calls;

  /** The bytes of deflated bytes in base64. */
  async function inflated(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at += 1) bytes[at] = text.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** What the last call left. */
  function told() {
    const bytes = new Uint8Array(calls.memory.buffer, calls.ocelli_text() >>> 0, calls.ocelli_text_len() >>> 0);
    return new TextDecoder().decode(bytes);
  }

  /** Gives bytes to the program. */
  function give(bytes) {
    const at = calls.ocelli_buffer(bytes.length) >>> 0;
    new Uint8Array(calls.memory.buffer, at, bytes.length).set(bytes);
  }

  /** Calls the program; what it refuses is an error with its message. */
  function call(name, ...given) {
    const refused = calls[name](...given) !== 0;
    const text = told();
    if (refused) throw new Error(text);
    return JSON.parse(text);
  }

  /** A new program with the model. */
  async function start() {
    calls = (await WebAssembly.instantiate(compiled)).exports;
    give(model);
    return call('ocelli_load');
  }

  /** The answer to a request. */
  async function answer(request) {
    if (request.kind === 'load') {
      compiled = await WebAssembly.compile(await inflated(request.program));
      model = await inflated(request.model);
      return { value: await start() };
    }
    if (!calls) await start();
    const begun = performance.now();
    give(new Uint8Array(request.bytes));
    if (request.kind === 'file') call('ocelli_decode');
    else call('ocelli_pixels', request.width, request.height);
    const decoded = performance.now();
    const value = call('ocelli_answer');
    return { value, decoding: decoded - begun, network: performance.now() - decoded };
  }

  /** What is wrong, for people. A program that stopped is replaced at the next request. */
  function message(error) {
    if (!(error instanceof WebAssembly.RuntimeError)) return error.message;
    let why = '';
    try {
      why = told();
    } catch {
      // It cannot even say why.
    }
    calls = undefined;
    return `The program in this page stopped: ${why || `${error.message}; the image or the model may take more memory than the browser gives`}`;
  }

  let turn = Promise.resolve();
  port.onmessage = ({ data }) => {
    turn = turn.then(async () => {
      try {
        port.postMessage({ id: data.id, ...await answer(data) });
      } catch (error) {
        port.postMessage({ id: data.id, error: message(error) });
      }
    });
  };
  port.postMessage({ ready: true });
}
