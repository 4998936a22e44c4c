// Which model the page is about, where the service has several.

const STORED = 'ocelli-model';

/** Addresses that are about one model. */
const PLACES = /^\/(predict|retrain|upload-data|v1\/(models|explain|embed))(?=[/?]|$)/;

let current = '';
try {
  current = sessionStorage.getItem(STORED) ?? '';
} catch { /* Storage is switched off: the choice lasts until the page is reloaded. */ }

/** Its name; empty for the default one. */
export const model = () => current;

/** The page is about this model from now on. */
export function setModel(name) {
  current = name;
  try {
    if (name) sessionStorage.setItem(STORED, name);
    else sessionStorage.removeItem(STORED);
  } catch { /* See above. */ }
}

/** An address, about the model that was chosen unless it names one. */
export function ofModel(path) {
  if (!current || !PLACES.test(path) || /[?&]model=/.test(path)) return path;
  return `${path}${path.includes('?') ? '&' : '?'}model=${encodeURIComponent(current)}`;
}
