//! Convolutions with what is fused into them.

use crate::bf16::Bf16;
use crate::exec::Mode;
use crate::kernels::Halves;
use crate::kernels::conv2d::Sweep;
use crate::kernels::conv2d::WeightGradient;
use crate::kernels::winograd::SharedTiles;
use crate::layers::behind::Behind;
use crate::layers::conv2d::{
    Conv2dBackward, Conv2dLayer, DataGradient, FilterMethod, Gradient, Method, Pooled, PooledBackward,
    Shared, made_len,
};
use crate::layers::filters::Filters;
use crate::layers::halves::{HalfConv2dBackward, HalfConv2dLayer, HalfDataGradient};
use crate::layers::run::Layer;
use crate::layers::split::weight_chunks;
use crate::plan::choice::Choice;
use crate::plan::place::Places;
use crate::plan::stage::Stage;
use crate::simd::Bf16Isa;

pub(super) fn lower(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let (choice, isa) = (context.choice(stage), context.exec.isa);
    let geometry = choice.geometry;
    let filters = context.filters(stage, geometry.cout);
    let mut method = choice.forward(isa);
    // In training, and before a backward pass that needs to know which pixel a pool took, images are not shared.
    let answers = context.mode.of(stage.node) == Mode::Infer && !context.mode.learns();
    if let (Method::Winograd(winograd, shared), true) = (&mut method, answers) {
        *shared = SharedTiles::new(winograd).map(|tiles| {
            let pixels = places.arena.add(0, tiles.pixels_len(), time);
            let products = places.arena.add(0, tiles.products_len(), time);
            Box::new(Shared { pixels, products, tiles })
        });
    }
    let bias = if filters.has_bias() { geometry.cout } else { 0 };
    let packed = places.take_packed(method.packed_len() + bias);
    places.need_folding(&filters);
    let mut pool = stage.pool.map(|pool| Pooled::new(&method, pool));
    places.need_scratch(pool.as_ref().map_or(method.scratch_len(), |pool| pool.scratch_len(&method)));
    let residual = stage.residual.map(|value| places.value(value));
    let take = places.take_of_outputs(stage.output);
    let mut backward = None;
    if places.has_backward(stage) {
        let now = context.backward_time(time);
        let gradient = filter_gradient(places, now, choice, &filters);
        let mut dy = places.grad_in(time, stage);
        if let Some(pool) = &mut pool {
            let argmax = places.arena.add(context.shapes[stage.output].len(), 0, time);
            places.arena.touch(argmax, now);
            pool.backward = Some(PooledBackward { dy, argmax, act: stage.act });
            dy = places.arena.add(geometry.y_len(), 0, now);
        } else {
            places.keep::<f32>(stage.output, time);
        }
        let dx = places.grad_out(time, stage.inputs[0]).map(|out| {
            let method = choice.backward_data(isa);
            places.need_scratch(method.scratch_len());
            let packed = places.take_packed(method.packed_len());
            DataGradient { out, method, packed, before: places.before(time) }
        });
        let behind = if pool.is_some() { Behind::Nothing } else { places.behind(time) };
        backward = Some(Conv2dBackward { dy, behind, dx, gradient });
    }
    let input = places.input(time);
    if let (Some(_), Some(backward)) = (input.norm, &backward)
        && let FilterMethod::Direct(weights) = &backward.gradient.method
    {
        let made = made_len(&geometry, weights);
        places.need_scratch(made + method.scratch_len().max(weights.scratch_len()));
    }
    let (y, act) = (places.value(stage.output), stage.act);
    Box::new(Conv2dLayer { geometry, input, y, residual, take, act, filters, method, pool, packed, backward })
}

/// The gradient of a convolution's filters and bias, which is computed at time `now`.
fn filter_gradient(places: &mut Places, now: usize, choice: &Choice, filters: &Filters) -> Gradient {
    let isa = places.context.exec.isa;
    let bias = filters.sums().map_or(0, ExactSizeIterator::len);
    let method = match choice.filter_gradient(isa) {
        Some(gradient) => {
            let chunks = places.arena.add(0, gradient.block_chunks() * gradient.chunk_len(), now);
            let sums = places.arena.add(0, gradient.sums_len(), now);
            FilterMethod::Winograd(gradient, chunks, sums)
        }
        None => {
            let direct = WeightGradient::new(isa, &choice.geometry);
            places.need_scratch(direct.scratch_len());
            FilterMethod::Direct(direct)
        }
    };
    let weights = if matches!(method, FilterMethod::Direct(_)) { filters.w.len() } else { 0 };
    let partials = places.arena.add(0, weight_chunks(weights + bias) * (weights + bias), now);
    Gradient { method, partials }
}

/// A convolution of bf16.
pub(super) fn lower_halves(places: &mut Places, time: usize, stage: &Stage) -> Box<dyn Layer> {
    let context = places.context;
    let (geometry, numbers) =
        (context.choice(stage).geometry, Halves::<Bf16>::new(Bf16Isa::of(context.exec.isa)));
    let filters = context.filters(stage, geometry.cout);
    let sweep = Sweep::forward(numbers, &geometry);
    let bias = if filters.has_bias() { geometry.cout } else { 0 };
    let packed = places.take_panels(sweep.packed_len(), bias);
    places.need_folding(&filters);
    places.need_scratch_of::<Bf16>(sweep.scratch_len());
    let residual = stage.residual.map(|value| places.value(value));
    let take = places.take_of_outputs(stage.output);
    let mut backward = None;
    if places.has_backward(stage) {
        let now = context.backward_time(time);
        let weights = WeightGradient::new(numbers, &geometry);
        places.need_scratch_of::<Bf16>(weights.scratch_len());
        let partial_len = filters.w.len() + filters.sums().map_or(0, ExactSizeIterator::len);
        let partials = places.arena.add(0, weight_chunks(partial_len) * partial_len, now);
        places.keep::<Bf16>(stage.inputs[0], time);
        places.keep::<Bf16>(stage.output, time);
        let dy = places.grad_in(time, stage);
        let dx = places.grad_out(time, stage.inputs[0]).map(|out| {
            let sweep = Sweep::backward_data(numbers, &geometry);
            places.need_scratch_of::<Bf16>(sweep.scratch_len());
            let packed = places.take_panels(sweep.packed_len(), 0);
            HalfDataGradient { out, sweep, packed, before: places.before(time) }
        });
        let behind = places.behind(time);
        backward = Some(HalfConv2dBackward { dy, behind, dx, weights, partials });
    }
    let ((x, y), act) = (places.x_and_y(stage), stage.act);
    Box::new(HalfConv2dLayer { geometry, x, y, residual, take, act, filters, sweep, packed, backward })
}
