//! A depthwise convolution that is computed with the pointwise ones around it gives the same bits as one that reads
//! and writes memory, whatever the shapes, the batch and the number of threads.

mod instruction_sets;
mod random_model;

use instruction_sets::instruction_sets;
use ocelli_engine::graph::{BatchNorm, Conv2d, Padding, Pool2d};
use ocelli_engine::{Activation, Exec, Graph, Inference, Isa, Mode, Op, Plan, PlanMemory, Shape};
use random_model::{bits, images, model};

/// Pointwise, depthwise, pointwise.
#[derive(Debug)]
struct Case {
    input: [usize; 3],
    wide: usize,
    depthwise: Conv2d,
    expand: bool,
    residual: bool,
    norm: bool,
}

impl Case {
    /// The network; an average of single pixels keeps the layers apart, and no more.
    fn graph(&self, apart: bool) -> Graph {
        let [h, w, c] = self.input;
        let mut g = Graph::new(Shape::new(h, w, c));
        let behind = |g: &mut Graph, name: &str, act: Option<Activation>| {
            if self.norm {
                g.then(format!("{name}_norm"), Op::BatchNorm(BatchNorm::default()));
            }
            if let Some(act) = act {
                g.then(format!("{name}_act"), Op::Activation(act));
            }
        };
        let gap = |g: &mut Graph, name: &str| {
            if apart {
                g.then(name, Op::AvgPool2d(Pool2d::new(1)));
            }
        };
        let narrow = if self.expand { c } else { self.wide };
        let mut x = g.push("first", Op::Conv2d(Conv2d::new(narrow, 1)), &[0]);
        gap(&mut g, "gap0");
        if apart {
            x += 1;
        }
        if self.expand {
            g.then("expand", Op::Conv2d(Conv2d::new(self.wide, 1)));
            behind(&mut g, "expand", Some(Activation::Relu6));
            gap(&mut g, "gap1");
        }
        g.then("depthwise", Op::Conv2d(self.depthwise.clone()));
        behind(&mut g, "depthwise", Some(Activation::Relu));
        gap(&mut g, "gap2");
        g.then("project", Op::Conv2d(Conv2d::new(narrow, 1)));
        behind(&mut g, "project", None);
        if self.residual {
            let last = g.nodes.len() as u32;
            g.push("add", Op::Add, &[last, x]);
        }
        g.then("last", Op::GlobalAvgPool);
        g
    }
}

/// Filters of all strides, paddings and dilations, on images that are some bands high and a few columns wide.
fn cases() -> Vec<Case> {
    let depthwise = |wide: usize, kernel: u32, stride: [u32; 2], padding: Padding| Conv2d {
        kernel: [kernel; 2],
        stride,
        padding,
        groups: wide as u32,
        ..Conv2d::new(wide, 1)
    };
    let filters = [
        (3, [1, 1], Padding::Same),
        (3, [2, 2], Padding::Same),
        (5, [1, 1], Padding::Same),
        (5, [2, 2], Padding::Explicit([2, 1, 2, 1])),
        (3, [1, 2], Padding::Valid),
        (1, [1, 1], Padding::Valid),
        (2, [5, 3], Padding::Valid),
        (3, [1, 1], Padding::Explicit([4, 5, 1, 1])),
    ];
    let mut cases = Vec::new();
    for (index, (kernel, stride, padding)) in filters.into_iter().enumerate() {
        for (number, (h, w, wide)) in [(97, 22, 32), (120, 16, 37), (64, 33, 70)].into_iter().enumerate() {
            let conv = depthwise(wide, kernel, stride, padding);
            let dilation = if number == 2 && kernel == 3 { [2, 1] } else { [1, 1] };
            let keeps = padding == Padding::Same && stride == [1, 1];
            cases.push(Case {
                input: [h, w, 6],
                wide,
                depthwise: Conv2d { dilation, ..conv },
                expand: (index + number) % 3 > 0,
                residual: keeps && number != 1,
                norm: index % 2 == 0,
            });
        }
    }
    cases
}

fn logits(case: &Case, apart: bool, batch: usize, exec: &Exec) -> Vec<u32> {
    let x = images(batch, case.input);
    let model = model(case.graph(apart));
    let mut plan = Inference::new(&model, batch, exec).expect("the graph is sound");
    let mut y = vec![0.0; batch * model.graph().classes().expect("the graph is sound")];
    plan.run(&x, batch, &mut y).expect("lengths fit");
    assert!(y.iter().all(|y| y.is_finite()) && y.iter().any(|&y| y != 0.0), "logits mean something");
    bits(&y)
}

/// What a plan for one image takes.
fn memory(case: &Case, apart: bool, isa: Isa) -> PlanMemory {
    let exec = Exec::with_isa(isa, 1).expect("one thread is sound");
    Plan::compile(&case.graph(apart), 1, Mode::Infer, &exec).expect("the graph is sound").memory()
}

#[test]
fn what_is_between_the_layers_has_no_place() {
    for case in cases().iter().filter(|case| case.expand) {
        for isa in instruction_sets() {
            let (fused, apart) = (memory(case, false, isa), memory(case, true, isa));
            assert!(2 * fused.tensors < apart.tensors, "{case:?}: {fused:?}, {apart:?}");
            assert_eq!(fused.weights, apart.weights, "{case:?} on {isa:?}");
            // The rows that wait in a cache, of which the widest case has many.
            assert!(fused.scratch <= 384 << 10, "{case:?}: {fused:?}");
        }
    }
}

#[test]
fn the_same_bits_as_through_memory() {
    for isa in instruction_sets() {
        for case in cases() {
            for batch in [1, 3] {
                let alone = Exec::with_isa(isa, 1).expect("one thread is sound");
                let expected = logits(&case, true, batch, &alone);
                for threads in 1..=3 {
                    let exec = Exec::with_isa(isa, threads).expect("a sound number");
                    let found = logits(&case, false, batch, &exec);
                    assert_eq!(found, expected, "{case:?}, {batch} images, {threads} threads");
                }
            }
        }
    }
}
