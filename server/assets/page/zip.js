// A ZIP of files, not packed: images are packed already. (APPNOTE 6.3.10: local headers, central directory, end.)

/** Most entries and bytes that the plain format holds; larger ones would need its 64-bit form. */
const MAX_ENTRIES = 65_535;
const MAX_BYTES = 0xffffffff;

/** Bit 11 of the flags: names are UTF-8. */
const UTF8 = 1 << 11;
/** 1 January 1980, the first day that the format knows: an archive of the same files is the same. */
const DATE = (1 << 5) | 1;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The checksum of the format (CRC-32). */
function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 0xff];
  return ~value >>> 0;
}

/** Little-endian numbers: `[bytes of the number, number]` each. */
function record(fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view.buffer;
}

/**
 * The archive as a Blob. `files` are `{ name, file }`; each is read once for its checksum, and the Blob refers to it.
 * `told(done)` tells how many are read.
 */
export async function zip(files, { signal, told }) {
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  if (files.length > MAX_ENTRIES || total > MAX_BYTES - 1024 * files.length) {
    throw new RangeError('The folder has more than 65,535 files or 4 GiB: make a ZIP of it and choose that.');
  }
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [at, { name, file }] of files.entries()) {
    signal.throwIfAborted();
    const path = new TextEncoder().encode(name);
    const crc = checksum(new Uint8Array(await file.arrayBuffer()));
    const common = [[2, 20], [2, UTF8], [2, 0], [2, 0], [2, DATE], [4, crc], [4, file.size], [4, file.size], [2, path.length], [2, 0]];
    const local = [record([[4, 0x04034b50], ...common]), path, file];
    directory.push(record([[4, 0x02014b50], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), path);
    parts.push(...local);
    offset += local[0].byteLength + path.length + file.size;
    told(at + 1);
  }
  const length = directory.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const end = record([[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: 'application/zip' });
}
