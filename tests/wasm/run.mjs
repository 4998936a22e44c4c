// Runs a program for WASI: node run.mjs PROGRAM.wasm ARGUMENTS. It has the repository, where it lies, and a folder for
// temporary files.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WASI } from 'node:wasi';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const [program, ...args] = process.argv.slice(2);
const temporary = mkdtempSync(join(tmpdir(), 'ocelli-wasm-'));
const wasi = new WASI({
  version: 'preview1',
  args: [program, ...args],
  env: process.env,
  preopens: { [root]: root, '/tmp': temporary },
});
const module = await WebAssembly.compile(readFileSync(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
let code = 1;
try {
  code = wasi.start(instance);
} finally {
  rmSync(temporary, { recursive: true, force: true });
}
process.exitCode = code;
