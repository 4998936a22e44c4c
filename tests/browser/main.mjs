// Walks the web page in Chromium: node main.mjs PROGRAM [--screenshots] [--only=begin,predict]

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { begin } from './begin.mjs';
import { data, relabel } from './data.mjs';
import { evaluate } from './evaluate.mjs';
import { Service, finish, launch, open } from './harness.mjs';
import { photos } from './images.mjs';
import { keys } from './keys.mjs';
import { looks } from './looks.mjs';
import { corrections, models } from './models.mjs';
import { parts } from './parts.mjs';
import { predict } from './predict.mjs';
import { several } from './several.mjs';
import { train } from './train.mjs';

/** In this order: later ones use what earlier ones added and trained. */
const WALKS = { parts, begin, predict, data, train, evaluate, relabel, models, corrections, looks, keys, several };

const given = process.argv.slice(2);
const only = given.find((one) => one.startsWith('--only='))?.slice(7).split(',');
const program = resolve(given.find((one) => !one.startsWith('-')) ?? new URL('../../target/debug/ocelli', import.meta.url).pathname);
const folder = await mkdtemp(join(tmpdir(), 'ocelli-browser-files-'));
const hands = await photos();

// The camera sees one photo, again and again: frames of motion JPEG are JPEG files one after the other.
const video = join(folder, 'camera.mjpeg');
await writeFile(video, Buffer.concat(Array(30).fill(hands.two[0])));

const service = await Service.start(program);
const browser = await launch(video);
try {
  const { paths } = await (await fetch(`${service.origin}/openapi.json`)).json();
  const missing = new Set();
  const window = await open(browser, service.origin);
  const world = {
    program, folder, hands, service, browser, window,
    screenshots: given.includes('--screenshots'),
    /** Whether this program answers at `path`; what is not there is not tested, and told. */
    has: (path) => {
      if (!paths[path] && !missing.has(path)) console.log(`skipped ${path} is not there`);
      missing.add(path);
      return Boolean(paths[path]);
    },
  };
  for (const [name, walk] of Object.entries(WALKS)) if (!only || only.includes(name)) await walk(world);
} finally {
  await browser.close();
  await service.remove();
  await rm(folder, { recursive: true, force: true });
}
finish();
