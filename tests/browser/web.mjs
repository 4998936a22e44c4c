// The page of `export --to web` in Chromium without a network: node web.mjs PROGRAM, with the pages of `tests/browser/web`.

import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { PATIENCE, finish, launch, open, same, test } from './harness.mjs';
import { photos } from './images.mjs';

/** Images that are compared. */
const IMAGES = 100;
/** Largest difference of a probability. */
const NEAR = 1e-4;
/** What each page has, and what the program calls it. */
const MODELS = { 'fashion-mnist-keras-cnn': 'fashion-mnist', 'imagenet-efficientnet-lite0': 'imagenet' };

const program = resolve(process.argv[2] ?? new URL('../../target/debug/ocelli', import.meta.url).pathname);
const pages = process.env.OCELLI_WEB_PAGES;
const folder = await mkdtemp(join(tmpdir(), 'ocelli-web-'));

/** Paths of the images: those of a folder that somebody names, or bundled photos of all classes. */
async function images(hands) {
  const own = process.env.OCELLI_WEB_IMAGES;
  if (own) return (await readdir(own)).sort().slice(0, IMAGES).map((name) => join(own, name));
  const at = join(folder, 'images');
  await mkdir(at);
  const all = Object.entries(hands).flatMap(([name, list]) => list.slice(0, IMAGES / 10).map((bytes, i) => [`${name}-${i}.jpg`, bytes]));
  await Promise.all(all.map(([name, bytes]) => writeFile(join(at, name), bytes)));
  return all.map(([name]) => join(at, name));
}

/** What the program says of files, and how long it takes for all. */
function predicted(model, paths) {
  const begun = performance.now();
  const done = spawnSync(program, ['predict', '--json', '--threads', '1', '--model', model, ...paths], {
    encoding: 'utf8', maxBuffer: 1 << 28, env: { ...process.env, OCELLI_TILES: 'off' },
  });
  if (done.status !== 0) throw new Error(`predict: ${done.error ?? done.stderr}`);
  const answers = done.stdout.trim().split('\n').map((line) => JSON.parse(line)).filter(({ type }) => type === 'prediction');
  return { answers, took: performance.now() - begun };
}

/** Asks the page's own port for the numbers behind its bars, whose text is rounded. */
async function answered(page, bytes) {
  return page.evaluate(async (base64) => {
    const letters = atob(base64);
    const image = Uint8Array.from(letters, (letter) => letter.charCodeAt(0)).buffer;
    window.testPort ??= await new Promise((ready) => {
      const { port1, port2 } = new MessageChannel();
      port2.onmessage = () => ready(port2);
      window.engine(port1);
    });
    const ask = (request) => new Promise((answer) => {
      window.testPort.onmessage = ({ data }) => answer(data);
      window.testPort.postMessage(request);
    });
    if (!window.testModel) {
      const text = (id) => window.testTexts[id];
      window.testModel = (await ask({ id: 0, kind: 'load', program: text('program'), model: text('model') })).value;
    }
    return { ...await ask({ id: 1, kind: 'file', bytes: image }), classes: window.testModel.classes };
  }, bytes.toString('base64'));
}

const hands = await photos();
const paths = await images(hands);
const video = join(folder, 'camera.mjpeg');
await writeFile(video, Buffer.concat(Array(30).fill(hands.two[0])));
const browser = await launch(video);
try {
  for (const file of (await readdir(pages)).filter((name) => name.endsWith('.html')).sort()) {
    const address = pathToFileURL(join(pages, file)).href;
    const model = MODELS[file.split('.')[0]];
    const window = await open(browser, 'no-origin', { offline: true });
    const { page, watch } = window;
    watch.allow(/^a request to file:/);
    // The page takes its data out of its document when it has read it.
    await page.addInitScript(() => {
      window.testTexts = {};
      document.addEventListener('readystatechange', () => {
        for (const id of ['program', 'model']) window.testTexts[id] ??= document.getElementById(id)?.textContent;
      });
      new MutationObserver((changes) => changes.forEach(({ addedNodes, removedNodes }) =>
        [...addedNodes, ...removedNodes].forEach((node) => {
          if (['program', 'model'].includes(node.id) && node.textContent) window.testTexts[node.id] = node.textContent;
        }))).observe(document, { childList: true, subtree: true });
    });
    const go = async () => {
      watch.allow(/^a request to file:/);
      await page.goto(address);
      await page.locator('body[data-ready]').waitFor();
    };

    await test(`${file}: ${paths.length} images as the program answers them`, [window], async () => {
      await go();
      const { answers, took } = predicted(model, paths);
      const start = predicted(model, paths.slice(0, 1)).took;
      const times = [];
      let largest = 0;
      for (const [at, path] of paths.entries()) {
        const { value, error, classes, decoding, network } = await answered(page, await readFile(path));
        same(error, undefined, path);
        same(classes[value.top[0].class], answers[at].label, `the class of ${path}`);
        same(value.known, answers[at].known, `whether ${path} is known`);
        for (const [rank, { class: index, probability }] of value.top.entries()) {
          const native = answers[at].top.find((other) => other.index === index);
          // Classes behind the fifth may change places where they are as likely.
          if (!native && rank > 0) continue;
          largest = Math.max(largest, Math.abs(probability - native.probability));
        }
        times.push([decoding, network]);
      }
      if (!(largest < NEAR)) throw new Error(`a probability is off by ${largest}`);
      const median = (of) => times.map((time) => time[of]).sort((a, b) => a - b)[times.length >> 1].toFixed(2);
      const native = ((took - start) / (paths.length - 1)).toFixed(2);
      console.log(`        largest difference of a probability ${largest.toExponential(1)}; page: ${median(0)} ms decoding + ${median(1)} ms network an image; program, one thread, all: ${native} ms`);
    });

    await test(`${file}: files by the picker, several at once`, [window], async () => {
      await go();
      await page.locator('#files').setInputFiles(paths.slice(0, 5));
      await page.getByText('5 images, 5 answered').waitFor({ timeout: PATIENCE });
      same(await page.locator('#answers > li').count(), 5, 'answers');
      same(await page.locator('#answers > li').first().locator('.bars li').count(), 5, 'bars');
    });

    await test(`${file}: broken images and other files are told and stop nothing`, [window], async () => {
      await page.locator('#files').setInputFiles([
        { name: 'cut.jpg', mimeType: 'image/jpeg', buffer: hands.one[0].subarray(0, 700) },
        { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('hello') },
        { name: 'empty.png', mimeType: 'image/png', buffer: Buffer.alloc(0) },
        { name: 'whole.jpg', mimeType: 'image/jpeg', buffer: hands.one[0] },
      ]);
      await page.getByText('4 images, 1 answered').waitFor();
      await page.getByText('not an image (it looks like text)').waitFor();
      same(await page.locator('#answers .bad').count(), 3, 'messages');
    });

    await test(`${file}: an image is dropped, one is pasted, and the keyboard reaches the picker`, [window], async () => {
      for (const kind of ['drop', 'paste']) {
        await page.evaluate(([what, base64]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], `${what}.jpg`, { type: 'image/jpeg' }));
          document.body.dispatchEvent(what === 'drop'
            ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })
            : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true }));
        }, [kind, hands.three[0].toString('base64')]);
        await page.locator('#answers').getByText(`${kind}.jpg`).waitFor();
      }
      await page.evaluate(() => document.activeElement.blur());
      await go();
      await page.keyboard.press('Tab');
      const [chooser] = await Promise.all([page.waitForEvent('filechooser'), page.keyboard.press('Enter')]);
      await chooser.setFiles(paths[0]);
      await page.locator('#answers > li').waitFor();
    });

    await test(`${file}: the camera answers and stops`, [window], async () => {
      await page.getByRole('button', { name: 'Use the camera' }).click();
      await page.locator('#seen .bars li').first().waitFor();
      await page.getByRole('button', { name: 'Stop the camera' }).click();
      await page.locator('#live').waitFor({ state: 'hidden' });
    });

    for (const colorScheme of ['light', 'dark']) {
      await test(`${file}: accessible and within its window, ${colorScheme}`, [window], async () => {
        await page.emulateMedia({ colorScheme });
        for (const width of [1280, 320]) {
          await page.setViewportSize({ width, height: 800 });
          await window.fits(`at ${width}`);
          await window.accessible(`at ${width}, ${colorScheme}`);
        }
      });
    }
    await window.context.close();
  }
} finally {
  await browser.close();
  await rm(folder, { recursive: true, force: true });
}
finish();
