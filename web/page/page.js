'use strict';

(() => {
  /** Most bytes of an image file: as many as the decoder takes. */
  const MOST_BYTES = 256 * 1024 * 1024;
  /** Longest side of a camera's frame that is looked at, in pixels. */
  const FRAME_SIDE = 640;
  /** Shortest time between two frames, in milliseconds. */
  const BETWEEN_FRAMES = 60;
  /** Answers that are kept on the page: older ones go. */
  const MOST_ANSWERS = 500;

  const one = (id) => document.getElementById(id);
  const [about, status, files, cameraButton, answers] = ['about', 'status', 'files', 'camera', 'answers'].map(one);
  const [live, video, seen] = ['live', 'video', 'seen'].map(one);

  /** An element with attributes, and with texts and elements inside. Names of classes come in as text alone. */
  function el(name, attributes, ...inside) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  }

  const say = (text) => { status.textContent = text; };
  const percent = (part) => `${(100 * part).toFixed(1)} %`;
  const milliseconds = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;

  let model;

  // The engine: in a worker, so that the page stays awake; where the browser has none for this page, beside it.

  /** The port of an engine that has started. */
  function started() {
    const beside = () => {
      const { port1, port2 } = new MessageChannel();
      return new Promise((resolve) => {
        port2.onmessage = () => resolve(port2);
        engine(port1);
      });
    };
    try {
      const source = URL.createObjectURL(new Blob([`(${engine})(self)`], { type: 'text/javascript' }));
      const worker = new Worker(source);
      return new Promise((resolve) => {
        worker.onmessage = () => resolve(worker);
        worker.onerror = () => resolve(beside());
      }).finally(() => URL.revokeObjectURL(source));
    } catch {
      return beside();
    }
  }

  const waiting = new Map();
  const port = started().then((found) => {
    found.onmessage = ({ data }) => {
      const { resolve, reject } = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error === undefined) resolve(data);
      else reject(new Error(data.error));
    };
    found.onerror = (event) => {
      for (const { reject } of waiting.values()) reject(new Error(event.message ?? 'the worker ended'));
      waiting.clear();
    };
    return found;
  });
  let requests = 0;

  /** Asks the engine. */
  async function ask(request, ...given) {
    const to = await port;
    requests += 1;
    return new Promise((resolve, reject) => {
      waiting.set(requests, { resolve, reject });
      to.postMessage({ id: requests, ...request }, given);
    });
  }

  // Answers.

  /** What an answer comes to, in a few words. */
  function verdict({ top, known, labels }) {
    if (!known) return 'Unknown';
    if (labels) return labels.map((label) => model.classes[label.class]).join(', ') || 'No label';
    return model.classes[top[0].class];
  }

  /** Heading, bars and times of an answer. */
  function said({ value, decoding, network }, level) {
    const bars = value.top.map(({ class: at, probability }) => {
      const bar = el('span', { class: 'bar', 'aria-hidden': 'true' }, el('span', {}));
      bar.firstChild.style.width = percent(probability);
      return el('li', {}, el('span', { class: 'name' }, model.classes[at]), bar, el('span', { class: 'part' }, percent(probability)));
    });
    const parts = [el(level, {}, verdict(value))];
    if (!value.known) parts.push(el('p', {}, 'It looks like none of the classes. Nearest are:'));
    parts.push(el('ol', { class: 'bars' }, ...bars));
    parts.push(el('p', { class: 'faint' }, `${milliseconds(decoding + network)} an image: ${milliseconds(decoding)} decoding and resizing, ${milliseconds(network)} the network`));
    return parts;
  }

  /** Shows an answer, or why there is none, above the others. */
  function show(file, ...content) {
    const address = URL.createObjectURL(file);
    const picture = el('img', { src: address, alt: '' });
    const look = el('div', { class: 'look' }, picture);
    picture.addEventListener('error', () => look.replaceChildren(el('span', { class: 'faint' }, 'The browser cannot show this file.')));
    const name = el('p', { class: 'faint file' }, file.name);
    const item = el('li', { class: 'answer' }, look, el('div', { class: 'said' }, name, ...content));
    item.address = address;
    answers.prepend(item);
    while (answers.children.length > MOST_ANSWERS) {
      URL.revokeObjectURL(answers.lastChild.address);
      answers.lastChild.remove();
    }
  }

  /** Answers for one file; says whether there is an answer. */
  async function classify(file) {
    try {
      if (file.size > MOST_BYTES) throw new Error('the file has more than 256 MiB');
      const bytes = await file.arrayBuffer();
      const answer = await ask({ kind: 'file', bytes }, bytes);
      show(file, ...said(answer, 'h2'));
      return verdict(answer.value) + (answer.value.known ? `, ${percent(answer.value.top[0].probability)}` : '');
    } catch (error) {
      show(file, el('h2', {}, 'No answer'), el('p', { class: 'bad' }, error.message));
      return undefined;
    }
  }

  let turn = Promise.resolve();

  /** Answers for files, one after the other. */
  function take(list) {
    const chosen = [...list];
    if (!model || !chosen.length) return;
    turn = turn.then(async () => {
      let failed = 0;
      let last;
      for (const [at, file] of chosen.entries()) {
        if (chosen.length > 1) say(`Image ${at + 1} of ${chosen.length} …`);
        const answer = await classify(file);
        if (answer === undefined) failed += 1;
        last = answer ?? `${file.name}: no answer`;
      }
      const several = `${chosen.length} images, ${chosen.length - failed} answered`;
      say(chosen.length === 1 ? last : several);
    });
  }

  files.addEventListener('change', () => {
    take(files.files);
    files.value = '';
  });
  addEventListener('paste', (event) => {
    const { files: pasted } = event.clipboardData;
    if (pasted.length) event.preventDefault();
    take(pasted);
  });
  addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  });
  addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    take(event.dataTransfer.files);
  });

  // The camera.

  let stream;

  function stopCamera() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = undefined;
    video.srcObject = null;
    live.hidden = true;
    cameraButton.textContent = 'Use the camera';
  }

  /** Answers frame by frame: the next one only when the last one is answered. */
  async function watch(own) {
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d', { willReadFrequently: true });
    let last;
    while (stream === own) {
      if (video.videoWidth && !document.hidden) {
        const scale = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight));
        canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
        canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
        context.drawImage(video, 0, 0, canvas.width, canvas.height);
        const { width, height } = canvas;
        const bytes = context.getImageData(0, 0, width, height).data.buffer;
        const answer = await ask({ kind: 'pixels', bytes, width, height }, bytes);
        if (stream !== own) return;
        seen.replaceChildren(...said(answer, 'h2'));
        // A screen reader hears of another answer, not of every frame.
        const now = verdict(answer.value);
        if (now !== last) say(now);
        last = now;
      }
      await new Promise((resolve) => { setTimeout(resolve, BETWEEN_FRAMES); });
    }
  }

  cameraButton.addEventListener('click', async () => {
    if (stream) {
      stopCamera();
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false });
    } catch (error) {
      say(error.name === 'NotAllowedError'
        ? 'The browser was told not to use the camera: allow it in the address bar, then try again.'
        : 'There is no camera that can be used now.');
      return;
    }
    cameraButton.textContent = 'Stop the camera';
    live.hidden = false;
    video.srcObject = stream;
    try {
      await video.play();
      await watch(stream);
    } catch (error) {
      stopCamera();
      say(`The camera stopped: ${error.message}`);
    }
  });

  // The model.

  (async () => {
    try {
      const [program, packed] = ['program', 'model'].map((id) => {
        const text = one(id).textContent;
        one(id).remove();
        return text;
      });
      const { value } = await ask({ kind: 'load', program, model: packed });
      model = value;
    } catch (error) {
      about.textContent = `The model cannot be used in this browser: ${error.message}`;
      about.className = 'bad';
      return;
    }
    const [width, height] = model.size;
    const unknown = model.knows_unknown ? 'says of images when they show none of them' : 'always answers with one of them, whatever an image shows';
    about.textContent = model.several_labels
      ? `${model.name}: any number of ${model.classes.length} labels an image, seen at ${width}×${height} pixels.`
      : `${model.name}: ${model.classes.length} classes, seen at ${width}×${height} pixels; it ${unknown}.`;
    one('classes').hidden = false;
    one('classes').querySelector('ul').append(...model.classes.map((name) => el('li', {}, name)));
    files.disabled = false;
    const camera = isSecureContext && navigator.mediaDevices?.getUserMedia && [1, 3].includes(model.channels);
    cameraButton.disabled = !camera;
    cameraButton.hidden = !camera;
    document.body.dataset.ready = 'true';
  })();
})();
