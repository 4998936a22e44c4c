// Who is looking and what they may do: `GET /v1/me`. What a key may not do is not offered.

import { get } from './http.js';

const SCOPES = ['none', 'predict', 'data', 'admin'];

/** As the service told last; everything is allowed until it says otherwise. */
export const session = { keys: false, scope: 'admin', name: '', readOnly: false };

/** Asks the service anew. */
export async function identify() {
  try {
    const me = await get('/v1/me');
    Object.assign(session, { keys: me.keys, scope: me.scope, name: me.name, readOnly: me.read_only });
  } catch (problem) {
    if (problem.code !== 'no_route') throw problem;
  }
}

/** Whether the key opens what needs `scope`. */
export function may(scope) {
  return SCOPES.indexOf(session.scope) >= SCOPES.indexOf(scope);
}

/** Whether something that needs `scope` may be changed. */
export function mayChange(scope) {
  return may(scope) && !session.readOnly;
}

/** Why something is not offered, in one sentence; null where it is. */
export function whyNot(scope) {
  if (!may(scope)) {
    return session.scope === 'none'
      ? 'Enter a key to do this.'
      : `Your key is for “${session.scope}”; this needs one for “${scope}”.`;
  }
  return session.readOnly ? 'This service is read-only: it answers and changes nothing.' : null;
}
