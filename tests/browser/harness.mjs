// The program as a process, a browser that is watched, and a list of tests.

import { spawn, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SCREENSHOTS = new URL('../../docs/screenshots/', import.meta.url).pathname;

/** Longer than anything takes on a busy machine, in milliseconds: reaching it means that something hangs. */
export const PATIENCE = 60_000;

/** A training on a few photos, with the machine busy. */
export const TRAINING = 300_000;

/** A service with a data folder of its own, which survives restarts. */
export class Service {
  static async start(program, { keys } = {}) {
    const service = new Service();
    Object.assign(service, { program, keys, folder: await mkdtemp(join(tmpdir(), 'ocelli-browser-')), port: 0 });
    await service.run();
    return service;
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Starts the process, on the port it had before if it was started before. */
  async run() {
    const given = ['serve', '--addr', `127.0.0.1:${this.port}`, '--data-dir', join(this.folder, 'data'), '--drain-delay', '0'];
    const keys = Object.fromEntries(Object.entries(this.keys ?? {}).map(([scope, key]) => [`OCELLI_KEY_${scope.toUpperCase()}`, key]));
    this.process = spawn(this.program, given, { env: { ...process.env, ...keys }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.log = '';
    this.ended = new Promise((resolve) => this.process.once('exit', resolve));
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the service did not start:\n${this.log}`)), PATIENCE);
      this.process.stderr.on('data', (chunk) => { this.log += chunk; });
      this.process.stdout.on('data', (chunk) => {
        this.log += chunk;
        const address = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(this.log);
        if (!address) return;
        clearTimeout(timer);
        this.port = Number(address[1]);
        resolve();
      });
      this.process.once('exit', () => reject(new Error(`the service ended:\n${this.log}`)));
    });
  }

  /** Ends the process, as `signal` does. */
  async end(signal = 'SIGTERM') {
    this.process.kill(signal);
    await this.ended;
  }

  async remove() {
    await this.end();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** What a page does that it must not: collected while tests run, asserted after each. */
class Watch {
  constructor(origin) {
    this.origin = origin;
    this.found = [];
    this.allowed = [];
  }

  note(text) {
    if (!this.allowed.some((pattern) => pattern.test(text))) this.found.push(text);
  }

  /** What a test provokes itself. */
  allow(...patterns) {
    this.allowed.push(...patterns);
  }

  check() {
    const found = this.found.splice(0);
    this.allowed = [];
    if (found.length) throw new Error(`the browser noticed:\n  ${found.join('\n  ')}`);
  }
}

/** Starts Chromium; `video` is what its camera sees. */
export async function launch(video) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', `--use-file-for-fake-video-capture=${video}`,
    ],
  });
}

/** A window on a service: `page` of playwright, `watch`, and ways that tests share. */
export async function open(browser, origin, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  const watch = new Watch(origin);
  page.setDefaultTimeout(PATIENCE);
  // A dialog for files is caught from now on; asked for at the moment of a key press it could come too late.
  page.on('filechooser', () => {});
  context.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !/^(blob|data):/.test(url)) watch.note(`a request to ${url}`);
  });
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') watch.note(`${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => watch.note(`a mistake in a script: ${error.stack}`));
  await context.exposeBinding('ocelliViolation', (_, text) => watch.note(`a policy violation: ${text}`));
  await context.addInitScript(() => addEventListener('securitypolicyviolation', (event) =>
    window.ocelliViolation(`${event.violatedDirective} ${event.blockedURI}`)));

  const window = { context, page, watch };
  /** Goes to a screen by its address, as somebody who opens a link does. */
  window.go = async (hash) => {
    const wanted = `${origin}/#/${hash}`;
    if (page.url() === wanted) await page.reload();
    else await page.goto(wanted);
    await page.locator('main h1').first().waitFor();
  };
  /** What a screen reader would stumble over. */
  window.accessible = async (what) => {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    }));
    const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
    const told = serious.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ target, failureSummary }) => `${target} ${failureSummary}`).join('; ')}`);
    if (told.length) throw new Error(`${what} is not accessible:\n  ${told.join('\n  ')}`);
  };
  /** Nothing sticks out of the window. */
  window.fits = async (what) => {
    const [content, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    if (content > room) throw new Error(`${what} is ${content} pixels wide in a window of ${room}`);
  };
  return window;
}

/** Most bytes of a screenshot: they are kept with the sources. */
const SCREENSHOT_BYTES = 150_000;

/** Keeps a picture of the window for the documentation. */
export async function screenshot({ page }, name) {
  await mkdir(SCREENSHOTS, { recursive: true });
  // Pictures that are still on their way would be missing.
  await page.waitForLoadState('networkidle');
  await page.waitForTimeout(300);
  const png = await page.screenshot();
  await writeFile(join(SCREENSHOTS, `${name}.png`), png.length > SCREENSHOT_BYTES ? smaller(png) : png);
}

/** The picture with 192 colours: photos take a fraction of their room so. */
function smaller(png) {
  const done = spawnSync('pngquant', ['--speed', '1', '192', '-'], { input: png, maxBuffer: 100 * SCREENSHOT_BYTES });
  if (done.status !== 0) throw new Error(`screenshots with photos need pngquant (Debian: apt-get install pngquant): ${done.error ?? done.stderr}`);
  return done.stdout;
}

const results = { passed: 0, failed: 0 };

/** Runs a test; a failure is told and the next one runs. */
export async function test(name, windows, body) {
  const begun = Date.now();
  try {
    await body();
    for (const { watch } of windows) watch.check();
    results.passed += 1;
    console.log(`ok      ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    results.failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
    for (const [at, { page, watch }] of windows.entries()) {
      watch.found = [];
      watch.allowed = [];
      const path = join(tmpdir(), `ocelli-browser-failed-${results.failed}-${at}.png`);
      await page.screenshot({ path }).then(() => console.log(`        how it looked: ${path}`), () => {});
    }
  }
}

/** The closing line, and the exit code. */
export function finish() {
  console.log(`browser: ${results.passed} passed, ${results.failed} failed`);
  process.exitCode = results.failed ? 1 : 0;
}

/** Fails unless the two are equal. */
export function same(found, wanted, what) {
  if (found !== wanted) throw new Error(`${what}: ${JSON.stringify(found)} in place of ${JSON.stringify(wanted)}`);
}

/** Fails unless a locator comes to have so many elements: a page draws them when their data has come. */
export async function counts(locator, wanted, what) {
  const deadline = Date.now() + PATIENCE;
  let found = await locator.count();
  while (found !== wanted && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    found = await locator.count();
  }
  same(found, wanted, what);
}
