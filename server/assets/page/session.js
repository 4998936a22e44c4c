// Who is looking and what they may do: `GET /v1/me`. What a key may not do is not offered.

import { get } from './http.js';
import { model, setModel } from './model.js';

const SCOPES = ['none', 'predict', 'data', 'admin'];

/** As the service told last. `data`: whether it has a data folder; `models`: their names, the default one first. */
export const session = { keys: false, scope: 'admin', name: '', readOnly: false, data: true, models: [] };

/** Asks the service anew. */
export async function identify() {
  const { keys, scope, name, read_only: readOnly, data } = await get('/v1/me');
  Object.assign(session, { keys, scope, name, readOnly, data, models: [] });
  if (data && may('predict')) {
    const { models } = await get('/v1/models');
    session.models = models.sort((a, b) => b.default - a.default).map((one) => one.name);
  }
  // One that is gone, or the default one by its name.
  if (!session.models.slice(1).includes(model())) setModel('');
}

/** Whether the key opens what needs `scope`. */
export function may(scope) {
  return SCOPES.indexOf(session.scope) >= SCOPES.indexOf(scope);
}

/** Whether something that is kept and needs `scope` may be changed. */
export function mayChange(scope) {
  return may(scope) && session.data && !session.readOnly;
}

/** Why something is not offered, in one sentence; null where it is. */
export function whyNot(scope) {
  if (!may(scope)) {
    return session.scope === 'none'
      ? 'Enter a key to do this.'
      : `Your key is for “${session.scope}”; this needs one for “${scope}”.`;
  }
  if (!session.data) return 'This service has no data folder: it keeps nothing and trains nothing.';
  return session.readOnly ? 'This service is read-only: it answers and changes nothing.' : null;
}
