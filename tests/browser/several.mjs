// Several models: one is chosen, and all screens are about it; a canary and a shadow beside what serves.

import { same, test } from './harness.mjs';

/** Pushes versions of the first model as a second one. */
async function push({ origin }) {
  const { serving, versions } = await (await fetch(`${origin}/v1/models`)).json();
  const others = versions.filter(({ version, damaged }) => version !== serving && !damaged);
  for (const version of [serving, others.at(-1).version]) {
    const file = await (await fetch(`${origin}/v1/models/${version}/file`)).arrayBuffer();
    const answer = await fetch(`${origin}/v1/models?model=second`, { method: 'POST', body: file });
    same(answer.status, 201, `the status of pushing ${version}`);
  }
}

export async function several({ window, hands, service, has }) {
  if (!has('/v1/models/labels')) return;
  const { page, go, accessible } = window;
  const labels = async () => (await (await fetch(`${service.origin}/v1/models/labels?model=second`)).json());

  await test('a second model is chosen, and the screens are about it', [window], async () => {
    await push(service);
    await page.reload();
    await page.getByLabel('Model', { exact: true }).selectOption('second');
    await go('models');
    await page.getByRole('heading', { name: 'Versions of second' }).waitFor();
    await accessible('the versions of the second model');
    await go('predict');
    const asked = page.waitForRequest((request) => request.url().includes('/predict'));
    await page.locator('#images-to-predict').setInputFiles({ name: 'two.jpg', mimeType: 'image/jpeg', buffer: hands.two[0] });
    same(new URL((await asked).url()).searchParams.get('model'), 'second', 'the model that is asked');
    await page.getByRole('region', { name: 'Answer for two.jpg' }).waitFor();
  });

  await test('a canary and a shadow stand beside the version that serves', [window], async () => {
    await go('models');
    await page.getByRole('button', { name: /^Canary/ }).click();
    await page.getByRole('button', { name: 'End the canary' }).waitFor();
    same((await labels()).canary.share, 10, 'the share of the canary');
    await page.getByRole('button', { name: 'End the canary' }).click();
    await page.getByRole('button', { name: 'End the canary' }).waitFor({ state: 'detached' });
    await page.getByRole('button', { name: /^Shadow/ }).click();
    await page.getByRole('button', { name: 'End the shadow' }).waitFor();
    for (;;) {
      await fetch(`${service.origin}/predict?model=second`, { method: 'POST', body: hands.two[0] });
      if ((await labels()).agreement.images > 0) break;
    }
    await page.reload();
    await page.getByRole('region', { name: 'Agreement of the shadow' }).waitFor();
    await accessible('a shadow');
    await page.getByRole('button', { name: 'End the shadow' }).click();
    await page.getByRole('button', { name: 'End the shadow' }).waitFor({ state: 'detached' });
  });

  await test('the default model is chosen again', [window], async () => {
    await page.getByLabel('Model', { exact: true }).selectOption({ index: 0 });
    await page.getByRole('heading', { name: /^Versions of/ }).waitFor();
    same(await page.getByRole('heading', { name: 'Versions of second' }).count(), 0, 'headings of the second model');
  });
}
