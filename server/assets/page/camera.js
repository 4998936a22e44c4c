// The camera: a live answer, the next frame only once the last one is answered, and images that are kept.

import { button, el, put, toast } from './dom.js';
import { postImage, wait } from './http.js';
import { percent } from './words.js';

/** Shortest time between two frames, in milliseconds. */
const BETWEEN = 120;

/** Longest side of a frame that is sent, in pixels. */
const SIDE = 640;

const usable = () => isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

/** The button that starts it, or why there is none; `take` gets the images that are kept. */
export function camera(take, { signal }) {
  if (!usable()) {
    return el('p', { class: 'hint' }, 'Browsers allow the camera on localhost or over https only: open this page there to use it. On a phone, “Choose images” can take one.');
  }
  const place = el('div', { class: 'camera' });
  const start = button('Use the camera', { click: () => open(place, start, take, signal) });
  put(place, start);
  return place;
}

async function open(place, start, take, signal) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false });
  } catch (error) {
    toast(error.name === 'NotAllowedError'
      ? 'The browser was told not to use the camera: allow it in the address bar, then try again.'
      : 'There is no camera that can be used now.');
    return;
  }
  const ended = new AbortController();
  const video = el('video', { autoplay: true, muted: true, playsinline: true, 'aria-label': 'What the camera sees' });
  const said = el('output', { class: 'live' }, '…');
  const stop = () => {
    ended.abort();
    stream.getTracks().forEach((track) => track.stop());
    put(place, start);
    start.focus();
  };
  const keep = async () => take([new File([await frame(video)], 'camera.jpg', { type: 'image/jpeg' })]);
  video.muted = true;
  video.srcObject = stream;
  signal.addEventListener('abort', stop);
  put(place, el('div', { class: 'viewer' }, video, said), el('div', { class: 'row' }, button('Take this image', { kind: 'primary', click: keep }), button('Stop the camera', { click: stop })));
  await video.play().catch(() => {});
  await watch(video, said, ended.signal);
}

/** Answers frame by frame. */
async function watch(video, said, signal) {
  while (!signal.aborted) {
    try {
      const answer = await postImage('/predict', await frame(video), { signal });
      const [{ known }] = answer.predictions;
      said.textContent = known ? `${answer.label} ${percent(answer.probability, 0)}` : 'unknown';
    } catch (problem) {
      if (problem.name === 'AbortError') return;
      said.textContent = problem.message;
    }
    await wait(BETWEEN, signal);
  }
}

/** What the camera sees now, as a JPEG. */
function frame(video) {
  const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight, 1));
  const canvas = el('canvas', { width: Math.max(1, Math.round(video.videoWidth * scale)), height: Math.max(1, Math.round(video.videoHeight * scale)) });
  canvas.getContext('2d').drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => { canvas.toBlob(resolve, 'image/jpeg', 0.92); });
}
