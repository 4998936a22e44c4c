// What a version said of its held-out images, one by one: `GET /v1/models/VERSION/predictions`.

import { address, get } from './http.js';

/** Images that are asked for in all, and of a request. */
const MOST = 5000;
const PAGE = 1000;

/** Answers by falling loss, at most `MOST`: `{ list, total, dataset }`. */
export async function answers(version, signal) {
  const list = [];
  for (;;) {
    const page = await get(address(`/v1/models/${version}/predictions`, { offset: list.length, limit: PAGE }), { signal });
    list.push(...page.predictions);
    if (!page.predictions.length || list.length >= Math.min(page.total, MOST)) return { list, total: page.total, dataset: page.dataset };
  }
}
