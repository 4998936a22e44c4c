//! The default table: shapes of common networks, from tutorial nets to ResNet, MobileNet and EfficientNet.

use ocelli_engine::Shape;
use ocelli_engine::geometry::{Conv2dGeometry, PoolGeometry};
use ocelli_engine::graph::{Conv2d, Padding, Pool2d};

use crate::cases::{Case, Op, Pass, Product, Variant};

/// Rows, depth, columns; the last one lies on no seam of any tile.
const GEMMS: [[usize; 3]; 6] =
    [[64, 64, 64], [256, 256, 256], [512, 512, 512], [1024, 1024, 1024], [128, 1600, 128], [97, 333, 131]];

/// Dense layers of a single image.
const DENSES: [[usize; 2]; 3] = [[1600, 128], [1280, 1000], [512, 1000]];

/// Side of the square image, channels in and out, kernel, stride, padding.
const CONVS: [[usize; 6]; 22] = [
    // First layers.
    [28, 1, 32, 3, 1, 0],
    [32, 3, 64, 3, 1, 1],
    [224, 3, 32, 3, 2, 1],
    [224, 3, 64, 7, 2, 3],
    // 3x3.
    [13, 32, 64, 3, 1, 0],
    [32, 64, 128, 3, 1, 1],
    [16, 256, 256, 3, 1, 1],
    [8, 512, 512, 3, 1, 1],
    [56, 64, 64, 3, 1, 1],
    [28, 128, 128, 3, 1, 1],
    [14, 256, 256, 3, 1, 1],
    [7, 512, 512, 3, 1, 1],
    [56, 64, 128, 3, 2, 1],
    // 5x5 and 7x7.
    [28, 64, 64, 5, 1, 2],
    [28, 64, 64, 5, 2, 2],
    [28, 32, 32, 7, 1, 3],
    // 1x1: residual, inverted residual, projection.
    [56, 64, 256, 1, 1, 0],
    [56, 24, 144, 1, 1, 0],
    [28, 192, 32, 1, 1, 0],
    [14, 96, 576, 1, 1, 0],
    [7, 320, 1280, 1, 1, 0],
    [56, 64, 128, 1, 2, 0],
];

/// Side, channels, kernel, stride; padded as far as the kernel reaches.
const DEPTHWISE: [[usize; 4]; 5] =
    [[112, 32, 3, 1], [56, 144, 3, 1], [14, 576, 3, 1], [56, 144, 3, 2], [28, 240, 5, 1]];

/// Side, channels, window, stride, padding.
const POOLS: [[usize; 5]; 2] = [[26, 32, 2, 2, 0], [112, 64, 3, 2, 1]];

/// Rows and classes.
const LOSSES: [[usize; 2]; 2] = [[128, 10], [16, 1000]];

/// All cases, on one thread.
pub fn table() -> Vec<Case> {
    let mut cases = Vec::new();
    for [rows, depth, cols] in GEMMS {
        let op = Op::Gemm(Product { rows, depth, cols });
        add(&mut cases, op);
        let forward = Case::new(op, Pass::Forward);
        cases.push(Case { variant: Variant::WithPack, ..forward });
        #[cfg(feature = "yardsticks")]
        cases
            .extend([Variant::MatrixMultiply, Variant::GemmCrate].map(|variant| Case { variant, ..forward }));
    }
    for [depth, cols] in DENSES {
        add(&mut cases, Op::Dense(Product { rows: 1, depth, cols }));
    }
    for [side, cin, cout, kernel, stride, padding] in CONVS {
        let filters = Conv2d::new(cout, kernel);
        let op = Op::Conv2d(geometry(Shape::new(side, side, cin), filters, stride, padding));
        for &variant in Case::new(op, Pass::Forward).alternatives() {
            // Small tiles are for small maps.
            if variant != Variant::Winograd2 || side <= 14 {
                cases.extend(op.passes().iter().map(|&pass| Case { variant, ..Case::new(op, pass) }));
            }
        }
    }
    for op in [Op::HalfConv2d, Op::ByteConv2d] {
        for [side, cin, cout, kernel, stride, padding] in CONVS {
            let shape = Shape::new(side, side, cin);
            add(&mut cases, op(geometry(shape, Conv2d::new(cout, kernel), stride, padding)));
        }
    }
    for [side, channels, kernel, stride] in DEPTHWISE {
        let filters = Conv2d { groups: channels as u32, ..Conv2d::new(channels, kernel) };
        let shape = Shape::new(side, side, channels);
        add(&mut cases, Op::Depthwise(geometry(shape, filters, stride, kernel / 2)));
    }
    for [side, channels, kernel, stride, padding] in POOLS {
        let pool = Pool2d {
            kernel: [kernel as u32; 2],
            stride: [stride as u32; 2],
            padding: Padding::Explicit([padding as u32; 4]),
        };
        let g = PoolGeometry::new("bench", Shape::new(side, side, channels), &pool);
        add(&mut cases, Op::MaxPool(g.expect("the table is sound")));
    }
    add(&mut cases, Op::BatchNorm { images: 8, side: 32, channels: 64 });
    for [rows, classes] in LOSSES {
        add(&mut cases, Op::SoftmaxCrossEntropy { rows, classes });
    }
    add(&mut cases, Op::Adam { parameters: 1 << 20 });
    cases
}

fn add(cases: &mut Vec<Case>, op: Op) {
    cases.extend(op.passes().iter().map(|&pass| Case::new(op, pass)));
}

fn geometry(input: Shape, filters: Conv2d, stride: usize, padding: usize) -> Conv2dGeometry {
    let padding = Padding::Explicit([padding as u32; 4]);
    let conv = Conv2d { stride: [stride as u32; 2], padding, ..filters };
    Conv2dGeometry::new("bench", input, &conv).expect("the table is sound")
}
