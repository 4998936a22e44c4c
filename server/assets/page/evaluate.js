// Evaluate: how well a version does on images that it was not trained on.

import { answers } from './answers.js';
import { coverage, reliability } from './charts.js';
import { card, el, empty, field, put, select } from './dom.js';
import { mistakes } from './gallery.js';
import { address, get } from './http.js';
import { matrix } from './matrix.js';
import { classTable } from './classes.js';
import { may } from './session.js';
import { count, counted, number, percent } from './words.js';

/** Images that are shown behind a cell, and worst mistakes. */
const SHOWN = 48;

/** `#/evaluate`, `#/evaluate/VERSION`. */
export async function show(root, { parts: [wanted], signal }) {
  const { versions, serving } = await get('/v1/models', { signal });
  const version = wanted ?? serving;
  const record = versions.find((one) => one.version === version);
  const choices = [...versions].reverse().map((one) => [one.version, `${one.number}: ${one.version}${one.serving ? ' (serves)' : ''}, ${one.data_name}`]);
  const choose = field('Version', select(choices, version, (value) => { location.hash = `#/evaluate/${value}`; }));
  put(root, el('h1', {}, 'How well does it do?'), choose);
  if (!record) {
    root.append(empty('There is no such version', el('p', {}, el('a', { href: '#/models' }, 'All versions'))));
    return;
  }
  if (record.origin !== 'trained') {
    root.append(unmeasured(record));
    return;
  }
  const report = await get(`/v1/models/${version}/evaluation`, { signal });
  if (report.per_class) root.append(...sections(report, record, signal));
  else root.append(el('p', { class: 'notice' }, 'This version says any number of labels; its report is in its run folder.'));
}

/** A version that was not trained here. */
function unmeasured({ metrics }) {
  return empty('This service has not measured this version',
    metrics
      ? el('p', {}, `Its file says: ${percent(metrics.accuracy)} right of ${counted(metrics.images, 'image')} (${metrics.split}).`)
      : el('p', {}, 'Its file does not say how well it does.'),
    el('p', {}, 'Versions that are trained here are measured on images that are held out. ', el('a', { href: '#/train' }, 'Train one')));
}

function sections(report, record, signal) {
  const behind = el('div', { class: 'stack', 'aria-live': 'polite' });
  const pictures = source(record, report, signal);
  const open = async (label, predicted) => {
    const title = label === predicted ? `“${label}”, and taken for it` : `“${label}”, taken for “${predicted}”`;
    put(behind, el('h3', {}, title), el('p', { class: 'hint' }, 'Looking for the images …'));
    try {
      const { total, predictions } = await pictures({ label, predicted });
      put(behind, el('h3', {}, title), el('p', { class: 'hint' }, total > predictions.length ? `${count(predictions.length)} of ${counted(total, 'image')}` : counted(total, 'image')), mistakes(predictions, record.data_name));
    } catch (problem) {
      if (!signal.aborted) put(behind, el('h3', {}, title), el('p', { class: 'notice warn' }, `${problem.message} ${problem.advice ?? ''}`));
    }
  };
  const worst = el('div', {}, mistakes(report.worst, record.data_name));
  return [
    headline(report),
    report.notes.length > 0 && el('ul', { class: 'notice plain' }, report.notes.map((note) => el('li', {}, note))),
    card('Confusion matrix', el('p', { class: 'hint' }, 'Rows: what it is. Columns: what it is taken for. A cell opens its images.'), el('div', { class: 'beside' }, matrix(report, open), behind)),
    card('Class by class', classTable(report.per_class)),
    report.worst.length > 0 && card('Worst mistakes', el('p', { class: 'hint' }, 'Those that it was surest of. Some may be wrong labels.'), worst),
    el('div', { class: 'pair' }, calibration(report), threshold(report, record, signal)),
  ].filter(Boolean);
}

/** The images of a cell; without a key for data, those of the report's worst mistakes. */
function source({ version }, { worst }, signal) {
  const path = `/v1/models/${version}/predictions`;
  return async ({ label, predicted }) => {
    if (may('data')) return get(address(path, { label, predicted, limit: SHOWN }), { signal });
    const predictions = worst.filter((one) => one.label === label && one.predicted === predicted);
    return { total: predictions.length, predictions };
  };
}

function headline({ accuracy, interval: [low, high], images, split, balanced_accuracy: balanced, top5, macro_f1: f1, loss, calibration: { ece } }) {
  const facts = [
    ['Balanced over classes', percent(balanced)], ['F1, mean of classes', percent(f1)], ['Among the five likeliest', percent(top5)],
    ['Loss', number(loss)], ['Calibration error', percent(ece)],
  ];
  return el('section', { class: 'card headline' },
    el('div', {},
      el('p', { class: 'label' }, 'Accuracy'),
      el('p', { class: 'large-number' }, percent(accuracy)),
      el('div', { class: 'interval', 'aria-hidden': 'true' },
        el('span', { class: 'range', style: { left: `${100 * low}%`, width: `${100 * (high - low)}%` } }),
        el('span', { class: 'point', style: { left: `${100 * accuracy}%` } })),
      el('p', { class: 'hint' }, `of ${counted(images, 'image')} (${split}). On images like these, with 95 % confidence: ${percent(low)} to ${percent(high)}.`)),
    el('dl', { class: 'facts' }, facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value)))));
}

function calibration({ calibration: { bins, ece, temperature } }) {
  return card('Can the probabilities be believed?',
    reliability(bins),
    el('p', { class: 'hint' }, `On average they are off by ${percent(ece)}.`, temperature !== 1 && ` They are softened by a temperature of ${number(temperature)}.`));
}

/** Steps of the slider where every answer is known. */
const STEPS = 100;

/** What is answered, and how much of that is right, if an answer needs at least a certain probability: at the edges of the bins. */
function byBins({ calibration: { bins }, images }) {
  return bins.map(({ low }, from) => {
    const kept = bins.slice(from);
    const answered = kept.reduce((sum, bin) => sum + bin.images, 0);
    const right = kept.reduce((sum, bin) => sum + bin.images * bin.accuracy, 0);
    return { least: low, coverage: images ? answered / images : 0, accuracy: answered ? right / answered : null };
  });
}

/** The same from every single answer, by the percent. */
function byAnswers(list) {
  return Array.from({ length: STEPS }, (_, step) => {
    const kept = list.filter(({ probability }) => probability >= step / STEPS);
    const right = kept.filter(({ label, predicted }) => label === predicted);
    return { least: step / STEPS, coverage: kept.length / list.length, accuracy: kept.length ? right.length / kept.length : null };
  });
}

/** What comes of a least probability, by a slider. */
function threshold(report, { version }, signal) {
  let points = byBins(report);
  const said = el('p', { 'aria-live': 'polite' });
  const drawing = el('div');
  const slider = el('input', { type: 'range', min: 0, max: points.length - 1, step: 1, value: 0, on: { input: () => tell() } });
  const tell = () => {
    const now = points[Number(slider.value)];
    slider.setAttribute('aria-valuetext', percent(now.least, 0));
    put(said, `Answers with at least ${percent(now.least, 0)}: `, el('strong', {}, percent(now.coverage)), ' of the images are answered, ', el('strong', {}, percent(now.accuracy)), ' of these are right.');
    put(drawing, coverage(points, now));
  };
  tell();
  if (may('data')) {
    answers(version, signal).then(({ list, total }) => {
      // Of more than are sent, the surest right ones would be missing.
      if (list.length < total || !list.length) return;
      points = byAnswers(list);
      slider.max = STEPS - 1;
      tell();
    }).catch(() => { /* The run is gone: the bins of the report stay. */ });
  }
  return card('What if it may say “not sure”?', drawing, field('Least probability of an answer', slider), said);
}
