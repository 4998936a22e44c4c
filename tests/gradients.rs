//! Gradients of whole networks: what the engine finds in f32 against finite differences of the f64 oracle.

use ocelli_engine::geometry::{Conv2dGeometry, PoolGeometry};
use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, Padding, Pool2d};
use ocelli_engine::kernels::reference;
use ocelli_engine::rng::Rng;
use ocelli_engine::{
    Activation, AdamConfig, Exec, Graph, Isa, Model, Norms, Op, Optimizer, ParamKind, Shape, TrainConfig,
    Trainer,
};

use crate::instruction_sets::instruction_sets;

const SMOOTHING: f32 = 0.1;

/// A network as the oracle computes it: every layer from its definition, in f64.
struct Oracle<'a> {
    model: &'a Model,
    shapes: Vec<Shape>,
    x: Vec<f64>,
    labels: Vec<u32>,
    norms: Norms,
}

impl Oracle<'_> {
    /// The training loss with these parameters.
    fn loss(&self, params: &[f64]) -> f64 {
        let graph = self.model.graph();
        let tensor = |name: String| {
            let entry = self.model.layout().entries().iter().find(|e| e.name == name)?;
            Some(&params[entry.range()])
        };
        let mut values = vec![self.x.clone()];
        for node in &graph.nodes {
            let x = &values[node.inputs[0] as usize];
            let shape = self.shapes[node.inputs[0] as usize];
            let own = |what: &str| tensor(format!("{}.{what}", node.name));
            let images =
                |f: &dyn Fn(&[f64]) -> Vec<f64>| x.chunks(shape.len()).flat_map(f).collect::<Vec<f64>>();
            let channels = shape.c as usize;
            let y = match &node.op {
                Op::Conv2d(conv) => {
                    let g = Conv2dGeometry::new(&node.name, shape, conv).unwrap();
                    images(&|x| reference::conv2d(x, own("weight").unwrap(), own("bias"), &g))
                }
                Op::Dense(_) => reference::dense(x, own("weight").unwrap(), own("bias").unwrap(), channels),
                Op::BatchNorm(norm) => {
                    let (mean, variance) = match self.norms {
                        Norms::Batch => reference::batch_statistics(x, channels),
                        Norms::Running => (
                            own("running_mean").expect("a norm has statistics").to_vec(),
                            own("running_var").expect("a norm has statistics").to_vec(),
                        ),
                    };
                    let affine = (own("scale").unwrap(), own("shift").unwrap());
                    reference::batch_norm(x, affine, (&mean, &variance), norm.eps.into())
                }
                Op::MaxPool2d(pool) => {
                    let g = PoolGeometry::new(&node.name, shape, pool).unwrap();
                    images(&|x| reference::max_pool(x, &g))
                }
                Op::AvgPool2d(pool) => {
                    let g = PoolGeometry::new(&node.name, shape, pool).unwrap();
                    images(&|x| reference::avg_pool(x, &g))
                }
                Op::GlobalAvgPool => images(&|x| reference::global_avg(x, channels)),
                Op::GlobalMaxPool => images(&|x| reference::global_max(x, channels)),
                Op::Activation(act) => reference::activation(x, *act),
                Op::Dropout { .. } | Op::Flatten => x.clone(),
                Op::Add => x.iter().zip(&values[node.inputs[1] as usize]).map(|(a, b)| a + b).collect(),
                Op::Concat => {
                    let part =
                        |&value: &u32| (&values[value as usize][..], self.shapes[value as usize].c as usize);
                    reference::concat(&node.inputs.iter().map(part).collect::<Vec<_>>())
                }
                Op::ChannelGather { channels: list } => reference::channel_gather(x, channels, list),
                Op::ChannelScale => {
                    let scales = values[node.inputs[1] as usize].chunks(channels);
                    let images = x.chunks(shape.len()).zip(scales);
                    images.flat_map(|(x, s)| reference::channel_scale(x, s)).collect()
                }
            };
            values.push(y);
        }
        let weights = vec![1.0; graph.classes().unwrap()];
        let sum =
            reference::cross_entropy(&values[values.len() - 1], &self.labels, &weights, SMOOTHING.into());
        sum / self.labels.len() as f64
    }
}

/// Compares some elements of every gradient tensor, among them its largest, on every instruction set.
fn check(name: &str, graph: Graph, images: usize) {
    for norms in [Norms::Batch, Norms::Running] {
        check_with(&format!("{name} {norms:?}"), graph.clone(), images, norms);
    }
}

fn check_with(name: &str, mut graph: Graph, images: usize, norms: Norms) {
    for node in &mut graph.nodes {
        if let Op::Dropout { rate } = &mut node.op {
            *rate = 0.0;
        }
    }
    let mut model = Model::init(graph.clone(), 4).unwrap();
    let mut rng = Rng::new(6, 0);
    // Biases and norms away from their initial zeros and ones, where mistakes hide.
    model.params_mut().iter_mut().for_each(|p| *p += 0.05 * rng.normal());
    let entries = model.layout().entries().to_vec();
    for entry in entries.iter().filter(|entry| entry.kind == ParamKind::RunningMean) {
        model.params_mut()[entry.range()].iter_mut().for_each(|mean| *mean += 0.5 * rng.normal());
    }
    let x: Vec<f32> = (0..images * graph.input.len()).map(|_| rng.normal()).collect();
    let labels: Vec<u32> = (0..images).map(|i| (i % graph.classes().unwrap()) as u32).collect();
    let oracle = Oracle {
        model: &model,
        shapes: graph.shapes().unwrap(),
        x: x.iter().map(|&x| x.into()).collect(),
        labels: labels.clone(),
        norms,
    };
    let mut params: Vec<f64> = model.params().iter().map(|&p| p.into()).collect();
    let config = TrainConfig {
        batch: images,
        optimizer: Optimizer::Adam(AdamConfig::default()),
        label_smoothing: SMOOTHING,
        seed: 0,
        norms,
        ..TrainConfig::default()
    };
    let found: Vec<(Isa, f32, Vec<f32>)> = instruction_sets()
        .into_iter()
        .map(|isa| {
            let exec = Exec::with_isa(isa, 2).unwrap();
            let mut trainer = Trainer::new(model.clone(), config.clone(), &exec).unwrap();
            let loss = trainer.gradients(&x, &labels).unwrap().loss;
            (isa, loss, trainer.grads().to_vec())
        })
        .collect();
    let loss = oracle.loss(&params);
    for (isa, found, _) in &found {
        assert!(
            (f64::from(*found) - loss).abs() < 1e-5 * loss,
            "{name} on {isa:?}: loss {found}, oracle {loss}"
        );
    }
    for entry in model.layout().entries().iter().filter(|e| e.kind.is_trainable()) {
        let gradient = &found[0].2[entry.range()];
        let size = gradient.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        let largest = gradient.iter().position(|g| g.abs() == size).unwrap();
        let others = (0..2).map(|_| rng.next_u64() as usize % entry.len());
        for index in others.chain([largest]) {
            let at = entry.offset + index;
            // Small enough that almost no ReLU or maximum changes its mind, large enough for f64.
            let step = 1e-6;
            let here = params[at];
            params[at] = here + step;
            let above = oracle.loss(&params);
            params[at] = here - step;
            let expected = (above - oracle.loss(&params)) / (2.0 * step);
            params[at] = here;
            for (isa, _, grads) in &found {
                let error = (f64::from(grads[at]) - expected).abs();
                let bound = 2e-4 * f64::from(size) + 1e-7;
                assert!(
                    error <= bound,
                    "{name} on {isa:?}: gradient of {}[{index}] is {}, finite differences say {expected}",
                    entry.name,
                    grads[at]
                );
            }
        }
    }
}

#[test]
fn every_layer_and_branch() {
    check("mixed", crate::golden::mixed(), 3);
}

#[test]
fn activations_of_other_frameworks_and_gathered_channels() {
    let mut g = Graph::new(Shape::new(8, 8, 3));
    let conv = |g: &mut Graph, name: &str| {
        g.then(name, Op::Conv2d(Conv2d { padding: Padding::Same, bias: false, ..Conv2d::new(6, 3) }));
    };
    let acts = [
        Activation::HardSwish,
        Activation::Tanh,
        Activation::LeakyRelu { slope: 0.125 },
        Activation::Clip { min: -0.5, max: 0.75 },
    ];
    // Behind a normalisation, a convolution alone, and with a pool behind it.
    for (i, act) in acts.into_iter().enumerate() {
        conv(&mut g, &format!("conv{i}"));
        g.then(format!("norm{i}"), Op::BatchNorm(BatchNorm::default()));
        g.then(format!("act{i}"), Op::Activation(act));
        conv(&mut g, &format!("again{i}"));
        g.then(format!("again_act{i}"), Op::Activation(act));
        // A slice, a shuffle, one channel more than once, two not at all.
        let channels = [vec![3, 4, 5], vec![5, 0, 3, 1, 4, 2], vec![1, 1, 4, 0, 1, 2]];
        g.then(format!("gather{i}"), Op::ChannelGather { channels: channels[i % 3].clone() });
    }
    conv(&mut g, "last");
    g.then("last_norm", Op::BatchNorm(BatchNorm::default()));
    g.then("last_clip", Op::Activation(Activation::Clip { min: -0.25, max: 1.5 }));
    g.then("pool", Op::MaxPool2d(Pool2d::new(2)));
    let mean = g.then("mean", Op::GlobalAvgPool);
    g.push("excite", Op::Dense(Dense { units: 6, bias: true }), &[mean]);
    let gate = g.then("gate", Op::Activation(Activation::HardSigmoid));
    g.push("scaled", Op::ChannelScale, &[mean, gate]);
    g.then("head", Op::Dense(Dense { units: 3, bias: true }));
    check("activations", g, 3);
}

/// `act(norm(conv(from)))`, padded by half the kernel.
fn unit(g: &mut Graph, from: u32, conv: Conv2d, act: Option<Activation>) -> u32 {
    let name = format!("unit{}", g.nodes.len());
    let pad = conv.kernel[0] / 2;
    let conv = Conv2d { padding: Padding::Explicit([pad; 4]), bias: false, ..conv };
    let conv = g.push(format!("{name}.conv"), Op::Conv2d(conv), &[from]);
    let norm = g.push(format!("{name}.norm"), Op::BatchNorm(BatchNorm::default()), &[conv]);
    act.map_or(norm, |act| g.push(format!("{name}.act"), Op::Activation(act), &[norm]))
}

#[test]
fn residual_blocks_with_batch_norm_and_depthwise_convolutions() {
    let (relu, relu6) = (Some(Activation::Relu), Some(Activation::Relu6));
    let mut g = Graph::new(Shape::new(9, 8, 3));
    let x = unit(&mut g, 0, Conv2d::new(8, 3), relu6);
    // An inverted residual, then a strided block whose shortcut is a convolution, as in MobileNetV2 and ResNet-18.
    let y = unit(&mut g, x, Conv2d::new(24, 1), relu6);
    let y = unit(&mut g, y, Conv2d { groups: 24, ..Conv2d::new(24, 3) }, relu6);
    let y = unit(&mut g, y, Conv2d::new(8, 1), None);
    let x = g.push("add1", Op::Add, &[x, y]);
    let y = unit(&mut g, x, Conv2d { stride: [2; 2], ..Conv2d::new(12, 3) }, relu);
    let y = unit(&mut g, y, Conv2d::new(12, 3), None);
    let down = unit(&mut g, x, Conv2d { stride: [2; 2], ..Conv2d::new(12, 1) }, None);
    let x = g.push("add2", Op::Add, &[y, down]);
    let x = g.push("relu", Op::Activation(Activation::Relu), &[x]);
    unit(&mut g, x, Conv2d { groups: 12, stride: [2; 2], ..Conv2d::new(12, 5) }, relu6);
    g.then("pool", Op::GlobalMaxPool);
    g.then("dense", Op::Dense(Dense { units: 4, bias: true }));
    check("residual", g, 3);
}
