// Data: archives and folders in, what is wrong with them, classes and their images, moving, removing, undo.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { counts, same, test } from './harness.mjs';
import { archive } from './images.mjs';

/** A class name that a page must not take for markup. */
export const HOSTILE = '<img src=x onerror=alert(1)>';

/** Photos of each class in the data set that the other tests train on. */
const EACH = 16;

const zipFile = (name, buffer) => ({ name, mimeType: 'application/zip', buffer });

/** See the module. */
export async function data({ window, hands, folder, service }) {
  const { page, watch, go, accessible, fits } = window;
  const choose = (file) => page.locator('#archive').setInputFiles(file);
  const add = async (name) => {
    await page.getByLabel('Data set').fill(name);
    await page.getByRole('button', { name: 'Add these images' }).click();
  };

  await test('what is no archive is refused with the reason', [window], async () => {
    watch.allow(/status of 4\d\d/);
    await go('data');
    await choose(zipFile('bad.zip', Buffer.from('PK\x03\x04 this is no archive')));
    await page.getByRole('alert').waitFor();
    await accessible('a refused archive');
    await page.getByRole('button', { name: 'Choose another' }).click();
    await page.getByText('Choose a ZIP').waitFor();
  });

  await test('an archive is added, with its progress and what became of it', [window], async () => {
    const { zero, one, two, three, four } = hands;
    const some = Object.fromEntries(Object.entries({ zero, one, two, three, four }).map(([name, list]) => [name, list.slice(0, EACH)]));
    await go('data');
    await choose(zipFile('hands.zip', await archive(some)));
    await page.getByText(`${5 * EACH} images of 5 classes can be read`).waitFor();
    await accessible('a dry run');
    same((await (await fetch(`${service.origin}/v1/datasets`)).json()).datasets.length, 0, 'data sets before it is confirmed');
    await add('hands');
    await page.getByText(`${5 * EACH} images added to “hands”`).waitFor();
    await accessible('an upload that is done');
    await page.getByRole('button', { name: 'Show hands' }).click();
    await page.getByRole('heading', { name: 'hands', level: 1 }).waitFor();
    await counts(page.getByRole('listitem').filter({ hasText: `${EACH} images` }), 5, 'cards of classes');
  });

  await test('names of classes are shown as text', [window], async () => {
    await go('data');
    await choose(zipFile('hostile.zip', await archive({ [HOSTILE]: hands.six.slice(0, 4), plain: hands.seven.slice(0, 4) })));
    await page.getByLabel('Data set').waitFor();
    await add('hostile');
    await page.getByText('8 images added to “hostile”').waitFor();
    await page.getByRole('button', { name: 'Show hostile' }).click();
    await page.getByRole('link', { name: HOSTILE }).click();
    await page.getByRole('heading', { name: HOSTILE, level: 1 }).waitFor();
    await counts(page.getByRole('option'), 4, 'images');
    same(await page.locator('main img[src="x"]').count(), 0, 'names that became elements');
    await fits('a long class name');
  });

  await test('a folder is packed in the browser', [window], async () => {
    const root = join(folder, 'own');
    for (const name of ['left', 'right']) {
      await mkdir(join(root, name), { recursive: true });
      const list = name === 'left' ? hands.eight : hands.nine;
      for (let at = 0; at < 3; at += 1) await writeFile(join(root, name, `${at}.jpg`), list[at]);
    }
    await writeFile(join(root, '.DS_Store'), 'litter');
    await go('data');
    await page.locator('#folder').setInputFiles(root);
    await page.getByText('6 files').waitFor();
    await add('own');
    await page.getByText('6 images added to “own”').waitFor();
  });

  await test('an upload can be cancelled', [window], async () => {
    await go('data');
    // The answer is held back, so that there is time to cancel.
    await page.route(/\/upload-data/, (route) => setTimeout(() => route.continue().catch(() => {}), 5000));
    watch.allow(/ERR_FAILED|ERR_ABORTED/);
    await choose(zipFile('late.zip', await archive({ a: hands.one.slice(0, 3), b: hands.two.slice(0, 3) })));
    await page.getByLabel('Data set').waitFor();
    await add('late');
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled.').waitFor();
    await page.unroute(/\/upload-data/);
  });

  await test('what is wrong with an archive is said before it is added', [window], async () => {
    await go('data');
    const copies = { a: [hands.one[0], hands.one[1], hands.one[0], hands.one[2].subarray(0, 900)], b: hands.two.slice(0, 4) };
    await choose(zipFile('doubtful.zip', await archive(copies)));
    await page.getByText('cannot be read').first().waitFor();
    await page.getByText('a/003.jpg').first().waitFor({ state: 'attached' });
    await accessible('findings');
    await page.getByRole('button', { name: 'Choose another' }).click();
    const { datasets } = await (await fetch(`${service.origin}/v1/datasets`)).json();
    same(datasets.some(({ name }) => name === 'doubtful'), false, 'kept without being asked');
  });

  await test('an image is seen large, by keyboard', [window], async () => {
    await go('data/set/hands/zero');
    await page.getByRole('option').first().focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').getByRole('img').waitFor();
    await accessible('a dialog');
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  });
}

/** Moving images to another class, and back. */
export async function relabel({ window, has }) {
  if (!has('/v1/datasets/{name}/changes')) return;
  const { page, go, accessible } = window;
  const options = () => page.getByRole('option');

  await test('several images are chosen by keyboard, moved to another class, and moved back', [window], async () => {
    await go('data/set/own/left');
    await options().first().focus();
    await page.keyboard.press('Space');
    await page.keyboard.press('Shift+ArrowRight');
    await page.getByText('2 chosen').waitFor();
    await accessible('a selection');
    await page.getByLabel('Class to move them to').fill('right');
    await page.getByRole('button', { name: 'Move', exact: true }).click();
    await page.getByText('2 images moved to “right”.').waitFor();
    await counts(options(), 1, 'images left');
    await page.getByRole('button', { name: 'Undo' }).click();
    await page.getByText('2 images as before.').waitFor();
    await page.waitForFunction(() => document.querySelectorAll('[role=option]').length === 3);
  });

  await test('images are removed and brought back from the list of changes', [window], async () => {
    await go('data/set/own/right');
    await options().nth(0).click();
    await options().nth(2).click({ modifiers: ['Shift'] });
    await page.getByText('3 chosen').waitFor();
    await page.getByRole('button', { name: 'Remove' }).click();
    await page.getByText('3 images removed.').waitFor();
    await go('data/set/own');
    await page.getByRole('button', { name: /^Undo: 3 images removed/ }).first().click();
    await page.getByText('3 images as before.').waitFor();
    await page.getByRole('link', { name: 'right' }).click();
    await page.waitForFunction(() => document.querySelectorAll('[role=option]').length === 3);
  });
}
