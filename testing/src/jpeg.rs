//! JPEG files of flat blocks (ITU-T T.81), in variants that encoders at hand do not write.
//!
//! All blocks are flat: only their DC coefficient is there, and what each pixel must be follows from the levels alone.

/// A component: its name, its sampling factors, and the level of each block of its own grid.
pub struct Part {
    /// Component identifier.
    pub id: u8,
    /// Horizontal sampling factor.
    pub h: u32,
    /// Vertical sampling factor.
    pub v: u32,
    /// The level of the block at a column and a row.
    pub level: fn(u32, u32) -> u8,
}

/// How the coefficients are spread over scans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    /// All of a block at once.
    Sequential,
    /// DC in one scan, then an AC scan for each component.
    Progressive,
    /// DC without its lowest bit, then that bit, then AC.
    Refined,
}

/// A file to write.
pub struct Jpeg {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// The components.
    pub parts: Vec<Part>,
    /// Which components each scan has; one alone is not interleaved. For progressive files these are the DC scans.
    pub scans: Vec<Vec<usize>>,
    /// Sequential or progressive.
    pub process: Process,
    /// The marker of the frame header, 0 for what the process wants.
    pub frame: u8,
    /// Bits of a sample as the frame header says it.
    pub precision: u8,
    /// The colour transform of an Adobe segment.
    pub adobe: Option<u8>,
    /// A JFIF segment.
    pub jfif: bool,
    /// MCUs between restart markers, 0 for none.
    pub restart: u32,
    /// The height stands in a DNL segment behind the first scan.
    pub dnl: bool,
}

impl Jpeg {
    /// A baseline file with a JFIF segment (if it may have one) and one scan of all parts.
    pub fn new(width: u32, height: u32, parts: Vec<Part>) -> Self {
        let scans = vec![(0..parts.len()).collect()];
        let jfif = parts.len() != 4;
        let (process, frame, precision) = (Process::Sequential, 0, 8);
        Self {
            width,
            height,
            parts,
            scans,
            process,
            frame,
            precision,
            adobe: None,
            jfif,
            restart: 0,
            dnl: false,
        }
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0xff, 0xd8];
        if self.jfif {
            segment(&mut out, 0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
        }
        if let Some(transform) = self.adobe {
            segment(&mut out, 0xee, &[b"Adobe\0\x64\0\0\0\0".as_slice(), &[transform]].concat());
        }
        // Every step is 8, which the DCT's factor of 8 for DC undoes.
        segment(&mut out, 0xdb, &[[0].as_slice(), &[8; 64]].concat());
        let [height, width] =
            [if self.dnl { 0 } else { self.height }, self.width].map(|n| (n as u16).to_be_bytes());
        let mut frame = [[self.precision].as_slice(), &height, &width, &[self.parts.len() as u8]].concat();
        for part in &self.parts {
            frame.extend([part.id, (part.h << 4 | part.v) as u8, 0]);
        }
        let kind = match (self.frame, self.process) {
            (0, Process::Sequential) => 0xc0,
            (0, _) => 0xc2,
            (kind, _) => kind,
        };
        segment(&mut out, kind, &frame);
        let counts = [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0];
        segment(&mut out, 0xc4, &[[0].as_slice(), &counts, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]].concat());
        // The only AC symbol is the end of a block, in one bit.
        segment(&mut out, 0xc4, &[[0x10, 1].as_slice(), &[0; 15], &[0]].concat());
        if self.restart > 0 {
            segment(&mut out, 0xdd, &(self.restart as u16).to_be_bytes());
        }
        let (sequential, low) =
            (self.process == Process::Sequential, u8::from(self.process == Process::Refined));
        for (number, members) in self.scans.iter().enumerate() {
            let last = if sequential { 63 } else { 0 };
            self.scan(&mut out, members, [0, last, low]);
            if number == 0 && self.dnl {
                segment(&mut out, 0xdc, &(self.height as u16).to_be_bytes());
            }
        }
        if low == 1 {
            self.scans.iter().for_each(|members| self.scan(&mut out, members, [0, 0, 0x10]));
        }
        if !sequential {
            (0..self.parts.len()).for_each(|part| self.scan(&mut out, &[part], [1, 63, 0]));
        }
        out.extend([0xff, 0xd9]);
        out
    }

    /// What the parts are at a pixel, when every block is repeated over the pixels it stands for.
    pub fn levels_at(&self, x: u32, y: u32) -> Vec<u8> {
        let most = self.most();
        self.parts.iter().map(|p| (p.level)(x * p.h / most.0 / 8, y * p.v / most.1 / 8)).collect()
    }

    /// True where a decoder that interpolates may differ from one that repeats: beside an edge of a block that is
    /// stretched.
    pub fn is_beside_an_edge(&self, x: u32, y: u32) -> bool {
        let most = self.most();
        let near = |at: u32, stretch: u32| {
            let within = at % (8 * stretch);
            stretch > 1 && (within < stretch || within >= 7 * stretch)
        };
        self.parts.iter().any(|p| near(x, most.0 / p.h) || near(y, most.1 / p.v))
    }

    fn most(&self) -> (u32, u32) {
        self.parts.iter().fold((1, 1), |most, p| (most.0.max(p.h), most.1.max(p.v)))
    }

    /// One scan of first and last coefficient and bits of successive approximation.
    fn scan(&self, out: &mut Vec<u8>, members: &[usize], [first, last, bits]: [u8; 3]) {
        let mut head = vec![members.len() as u8];
        members.iter().for_each(|&m| head.extend([self.parts[m].id, 0]));
        head.extend([first, last, bits]);
        segment(out, 0xda, &head);
        let mut code = Bits::default();
        let mut before = vec![0; self.parts.len()];
        let mut restarts = 0;
        for (number, mcu) in self.mcus(members).into_iter().enumerate() {
            if self.restart > 0 && number > 0 && (number as u32).is_multiple_of(self.restart) {
                out.append(&mut std::mem::take(&mut code).done());
                out.extend([0xff, 0xd0 + restarts]);
                restarts = (restarts + 1) % 8;
                before.fill(0);
            }
            for (m, x, y) in mcu {
                let level = i32::from((self.parts[m].level)(x, y)) - 128;
                if first > 0 {
                    code.add(0, 1);
                } else if bits == 0x10 {
                    code.add(level as u32 & 1, 1);
                } else {
                    let value = level >> bits;
                    code.dc(value - before[m]);
                    before[m] = value;
                    if last == 63 {
                        code.add(0, 1);
                    }
                }
            }
        }
        out.append(&mut code.done());
    }

    /// The blocks of each MCU: several for each member of an interleaved scan, and a single one otherwise, where a
    /// part has no more blocks than its pixels need.
    fn mcus(&self, members: &[usize]) -> Vec<Vec<(usize, u32, u32)>> {
        let most = self.most();
        if let [m] = *members {
            let part = &self.parts[m];
            let across = (self.width * part.h).div_ceil(most.0).div_ceil(8);
            let down = (self.height * part.v).div_ceil(most.1).div_ceil(8);
            return (0..down).flat_map(|y| (0..across).map(move |x| vec![(m, x, y)])).collect();
        }
        let (across, down) = (self.width.div_ceil(8 * most.0), self.height.div_ceil(8 * most.1));
        let mcu = |x: u32, y: u32| {
            let blocks = members.iter().flat_map(|&m| {
                let (h, v) = (self.parts[m].h, self.parts[m].v);
                (0..v).flat_map(move |j| (0..h).map(move |i| (m, x * h + i, y * v + j)))
            });
            blocks.collect()
        };
        (0..down).flat_map(|y| (0..across).map(move |x| (x, y))).map(|(x, y)| mcu(x, y)).collect()
    }
}

/// Puts a segment behind the file.
pub fn segment(out: &mut Vec<u8>, marker: u8, body: &[u8]) {
    out.extend([0xff, marker]);
    out.extend((body.len() as u16 + 2).to_be_bytes());
    out.extend(body);
}

/// The file with a segment right behind its start.
pub fn with_segment(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    segment(&mut out, marker, body);
    out.extend(&jpeg[2..]);
    out
}

/// The file without the segments of a marker in front of its first scan.
pub fn without_segments(jpeg: &[u8], marker: u8) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    let mut at = 2;
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != marker {
            out.extend(&jpeg[at..end]);
        }
        at = end;
    }
    out.extend(&jpeg[at..]);
    out
}

/// Bits of a scan, the first one highest.
#[derive(Default)]
struct Bits {
    bits: Vec<bool>,
}

impl Bits {
    fn add(&mut self, value: u32, count: u32) {
        self.bits.extend((0..count).rev().map(|at| value >> at & 1 == 1));
    }

    /// A difference of DC: its size in the code of table K.3, then its bits (T.81, F.1.2.1).
    fn dc(&mut self, difference: i32) {
        const CODES: [(u32, u32); 12] = [
            (0, 2),
            (2, 3),
            (3, 3),
            (4, 3),
            (5, 3),
            (6, 3),
            (14, 4),
            (30, 5),
            (62, 6),
            (126, 7),
            (254, 8),
            (510, 9),
        ];
        let size = 32 - difference.unsigned_abs().leading_zeros();
        let (code, length) = CODES[size as usize];
        self.add(code, length);
        let value = if difference < 0 { difference + (1 << size) - 1 } else { difference };
        self.add(value as u32, size);
    }

    /// Whole bytes, filled up with ones, with a zero behind each byte of ones.
    fn done(self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            (0..8).fold(0, |byte, i| byte << 1 | u8::from(bits.get(i).copied().unwrap_or(true)))
        };
        let bytes = self.bits.chunks(8).map(byte);
        bytes.flat_map(|byte| if byte == 0xff { vec![0xff, 0] } else { vec![byte] }).collect()
    }
}

/// Luma and colour differences to red, green and blue (JFIF 1.02), not rounded.
pub fn from_ycc([y, cb, cr]: [u8; 3]) -> [f64; 3] {
    let (y, cb, cr) = (f64::from(y), f64::from(cb) - 128.0, f64::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|value| value.clamp(0.0, 255.0))
}
