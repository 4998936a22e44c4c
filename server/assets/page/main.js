// The frame around the screens: which one is shown, the key, light or dark, and files that are dropped anywhere.

import { announce, button, dialog, el, failure, field, put, select, svg } from './dom.js';
import { key, setKey } from './http.js';
import { model, setModel } from './model.js';
import { identify, may, session } from './session.js';

/** `scope` is what looking at a screen needs, `kept` whether it is about what a data folder holds. */
const SCREENS = [
  { name: 'predict', title: 'Predict', scope: 'predict', load: () => import('./predict.js') },
  { name: 'data', title: 'Data', scope: 'data', kept: true, load: () => import('./data.js') },
  { name: 'train', title: 'Train', scope: 'predict', kept: true, load: () => import('./train.js') },
  { name: 'evaluate', title: 'Evaluate', scope: 'predict', kept: true, load: () => import('./evaluate.js') },
  { name: 'models', title: 'Models', scope: 'predict', kept: true, load: () => import('./models.js') },
  { name: 'status', title: 'Status', scope: 'predict', load: () => import('./status.js') },
];

const main = document.getElementById('main');
const navigation = document.getElementById('screens');

/** The screen that is shown: `leave` ends what it has under way, `drop` is told of files. */
let shown = { name: '', leave: new AbortController(), drop: null };

/** `#/data/hands/two%20words` -> ['data', 'hands', 'two words']. */
function place() {
  const parts = location.hash.replace(/^#\/?/, '').split('/').filter(Boolean);
  try {
    return parts.map(decodeURIComponent);
  } catch {
    return [];
  }
}

async function show() {
  const [name, ...parts] = place();
  const screen = SCREENS.find((one) => one.name === name);
  if (!screen) {
    location.replace('#/predict');
    return;
  }
  const first = shown.name === '';
  shown.leave.abort();
  const leave = new AbortController();
  shown = { name, leave, drop: null };
  for (const link of navigation.querySelectorAll('a')) {
    if (link.dataset.name === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${screen.title} – Ocelli`;
  const root = el('div', { class: `screen ${name}` });
  put(main, root);
  scrollTo(0, 0);
  if (!first) {
    main.focus({ preventScroll: true });
    announce(screen.title);
  }
  try {
    if (!may(screen.scope)) {
      put(root, el('h1', {}, screen.title), locked(screen.scope));
      return;
    }
    const { show: fill } = await screen.load();
    if (leave.signal.aborted) return;
    const handlers = await fill(root, { parts, signal: leave.signal });
    if (!leave.signal.aborted) shown.drop = handlers?.drop ?? null;
  } catch (problem) {
    if (leave.signal.aborted || problem.name === 'AbortError') return;
    if (problem.code === 'unauthorized') session.keys = true;
    tools();
    put(root, el('h1', {}, screen.title), failure(problem, show));
    if (problem.code === 'unauthorized') root.append(button('Enter a key', { kind: 'primary', click: askForKey }));
  }
}

function locked(scope) {
  const text = key() && session.scope === 'none'
    ? 'The service does not know the key that was entered.'
    : `This needs a key for “${scope}”. Whoever runs the service has it.`;
  return el('div', { class: 'empty' }, el('p', {}, text), button('Enter a key', { kind: 'primary', click: askForKey }));
}

async function askForKey() {
  const entered = await dialog('Key', (close) => {
    const input = el('input', { type: 'password', autocomplete: 'off', required: true, maxlength: 512 });
    const submit = (event) => { event.preventDefault(); close(input.value.trim()); };
    return el('form', { on: { submit } },
      field('Key of this service', input, 'Kept in this tab until it is closed, and sent to this service only.'),
      el('div', { class: 'row end' },
        key() && button('Forget the key', { click: () => close('') }),
        button('Cancel', { click: () => close(undefined) }),
        el('button', { class: 'button primary' }, 'Use it')));
  });
  if (entered === undefined) return;
  setKey(entered);
  await begin();
}

/** Light, dark, or as the system says: in this order around the button. */
const THEMES = { system: 'Auto', light: 'Light', dark: 'Dark' };
const STORED_THEME = 'ocelli-theme';

function theme() {
  try {
    return localStorage.getItem(STORED_THEME) ?? 'system';
  } catch {
    return document.documentElement.dataset.theme ?? 'system';
  }
}

function useTheme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem(STORED_THEME, name);
  } catch { /* Storage is switched off: the choice lasts until the page is reloaded. */ }
}

function tools() {
  const names = Object.keys(THEMES);
  const now = THEMES[theme()] ? theme() : 'system';
  const next = names[(names.indexOf(now) + 1) % names.length];
  const change = () => {
    useTheme(next);
    tools();
    document.getElementById('theme').focus();
    announce(`Colours: ${THEMES[next]}`);
  };
  const [first, ...others] = session.models;
  const choose = (name) => { setModel(name); show(); };
  const choice = others.length > 0 && el('div', { class: 'row tight' },
    el('label', { for: 'model' }, 'Model'),
    select([['', first], ...others.map((name) => [name, name])], model(), choose, { id: 'model' }));
  put(document.getElementById('tools'),
    choice,
    session.keys && button(session.scope === 'none' ? 'Key' : `Key: ${session.scope}`, { kind: 'quiet', click: askForKey }),
    el('button', { type: 'button', class: 'button quiet theme', id: 'theme', title: 'Light, dark, or as the system', 'aria-label': `Colours: ${THEMES[now]}`, on: { click: change } },
      svg('svg', { viewBox: '0 0 16 16', width: 16, height: 16, 'aria-hidden': 'true' },
        svg('circle', { cx: 8, cy: 8, r: 6.5 }), svg('path', { d: 'M8 1.5a6.5 6.5 0 0 1 0 13z' })),
      THEMES[now]));
}

function links() {
  const offered = SCREENS.filter(({ scope, kept }) => (session.scope === 'none' || may(scope)) && (session.data || !kept));
  put(navigation,
    offered.map(({ name, title }) => el('a', { href: `#/${name}`, data: { name } }, title)),
    el('a', { href: '/docs' }, 'API'));
}

async function begin() {
  try {
    await identify();
  } catch (problem) {
    put(main, failure(problem, begin));
    tools();
    return;
  }
  links();
  tools();
  await show();
}

/** Files may be dropped wherever they are let go: images are predicted, archives uploaded. */
function dropping() {
  const holdsFiles = (event) => event.dataTransfer?.types.includes('Files');
  let depth = 0;
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle('dropping', depth > 0);
  };
  addEventListener('dragenter', (event) => holdsFiles(event) && mark(1));
  addEventListener('dragleave', (event) => holdsFiles(event) && mark(-1));
  addEventListener('dragover', (event) => holdsFiles(event) && event.preventDefault());
  addEventListener('drop', (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    give([...event.dataTransfer.files]);
  });
  addEventListener('paste', (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) give(files);
  });
}

/** Files that came to a screen that does not take them, for the one that does. */
let waiting = null;

async function give(files) {
  const screen = files.some(({ name }) => /\.zip$/i.test(name)) ? 'data' : 'predict';
  if (shown.name === screen && shown.drop) {
    shown.drop(files);
    return;
  }
  waiting = files;
  location.hash = `#/${screen}`;
}

async function go() {
  await show();
  if (waiting && shown.drop) {
    const files = waiting;
    waiting = null;
    shown.drop(files);
  }
}

useTheme(THEMES[theme()] ? theme() : 'system');
addEventListener('hashchange', go);
// Its own address would be taken for that of a screen.
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
dropping();
await begin();
