// A image in three views: as it came, as the network sees it, and where the network looks (`POST /v1/explain`).

import { el, field, put, segments, select } from './dom.js';
import { address, postImage } from './http.js';
import { percent } from './words.js';

const METHODS = [['gradcam', 'Grad-CAM'], ['layercam', 'LayerCAM'], ['occlusion', 'Covering parts']];

/** Cividis (Nuñez, Anderton and Renslow, 2018) at ten even steps: one order of brightness for every kind of eye. */
const CIVIDIS = ['00224e', '123570', '3b496c', '575d6d', '707173', '8a8678', 'a59c74', 'c3b369', 'e1cc55', 'fee838']
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

/** Red, green and blue of a value in 0..1. */
function colour(value) {
  const place = Math.min(1, Math.max(0, value)) * (CIVIDIS.length - 1);
  const below = Math.min(CIVIDIS.length - 2, Math.floor(place));
  return CIVIDIS[below].map((low, at) => Math.round(low + (CIVIDIS[below + 1][at] - low) * (place - below)));
}

/** A canvas of a map's own size; the browser makes it larger, smoothly. */
function heat({ width, height, values }) {
  const canvas = el('canvas', { width, height, class: 'heat', 'aria-hidden': 'true' });
  const drawing = canvas.getContext('2d');
  const image = drawing.createImageData(width, height);
  values.forEach((value, at) => image.data.set([...colour(value), 255], 4 * at));
  drawing.putImageData(image, 0, 0);
  return canvas;
}

/** What the colours mean. */
function scale() {
  const steps = 64;
  const values = Array.from({ length: steps }, (_, at) => at / (steps - 1));
  return el('div', { class: 'scale' }, el('span', {}, 'little'), heat({ width: steps, height: 1, values }), el('span', {}, 'much'));
}

/** The figure of an answered image; `original` makes the image as it came. */
export function views(shot, original, { model, signal }) {
  const look = el('div', { class: 'look' }, original());
  const controls = el('div', { class: 'controls' });
  const about = el('div', { class: 'stack' });
  const settings = { view: 'picture', class: undefined, method: 'gradcam', opacity: 0.6, ...shot.view };
  shot.view = settings;

  let turn = 0;
  const draw = async () => {
    const mine = (turn += 1);
    look.removeAttribute('aria-busy');
    if (settings.view === 'picture') {
      put(look, original());
      put(about);
      return;
    }
    look.setAttribute('aria-busy', 'true');
    try {
      const answer = await explanation(shot, settings, signal);
      // Something else may have been chosen meanwhile.
      if (mine !== turn) return;
      const seen = el('img', { src: `data:image/png;base64,${answer.input.png}`, alt: 'The image as the network sees it' });
      const layers = el('div', { class: 'layers' }, seen);
      put(look, layers);
      if (settings.view === 'input') {
        put(about, el('p', { class: 'hint' }, `${answer.input.width} × ${answer.input.height} pixels: all that the network gets of it.`));
        return;
      }
      const over = heat(answer.map);
      over.style.setProperty('opacity', settings.opacity);
      layers.append(over);
      if (about.dataset.view !== 'heat' || !about.childElementCount) put(about, heatControls(answer));
      about.querySelector('.for').textContent = `What speaks for “${answer.class}” (${percent(answer.probability)}).`;
    } catch (problem) {
      if (mine === turn && problem.name !== 'AbortError') put(about, el('p', { class: 'hint', role: 'alert' }, problem.message));
    } finally {
      if (mine === turn) {
        look.removeAttribute('aria-busy');
        about.dataset.view = settings.view;
      }
    }
  };

  const heatControls = (answer) => {
    const ranked = shot.answer.predictions[0].top.map(({ label }) => label);
    const labels = model.version === shot.answer.model.version ? model.classes : ranked;
    const fade = (event) => {
      settings.opacity = Number(event.target.value);
      look.querySelector('.heat')?.style.setProperty('opacity', settings.opacity);
    };
    const again = (name) => (value) => { settings[name] = value; draw(); };
    const opacity = el('input', { type: 'range', min: 0, max: 1, step: 0.05, value: settings.opacity, on: { input: fade } });
    return [
      scale(),
      el('p', { class: 'hint for', 'aria-live': 'polite' }),
      field('Strength of the colours', opacity),
      el('div', { class: 'row' },
        field('Class', select(labels.map((label) => [label, label]), answer.class, again('class'))),
        field('Method', select(METHODS, settings.method, again('method')))),
    ];
  };

  const choices = [['picture', 'Image'], ['input', 'As the model sees it'], ['heat', 'Where it looks']];
  // Asked for only when somebody wants to see it: a map takes a few times as long as the answer.
  put(controls, segments('View', choices, settings.view, (view) => { settings.view = view; draw(); }), about);
  if (settings.view !== 'picture') draw();
  return el('figure', { class: 'views' }, look, controls);
}

/** What the service says of an image; asked once for each class and method. */
function explanation(shot, settings, signal) {
  const path = address('/v1/explain', { class: settings.class, method: settings.method, version: shot.answer.model.version });
  shot.explained ??= new Map();
  if (!shot.explained.has(path)) {
    const asked = postImage(path, shot.file, { signal });
    asked.catch(() => shot.explained.delete(path));
    shot.explained.set(path, asked);
  }
  return shot.explained.get(path);
}
