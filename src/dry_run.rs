//! `ocelli train --dry-run`: the data and the recipe as they were understood, the network layer by layer, and what the run
//! will take, by a few steps on a few images. Leaves nothing behind.

use ocelli_common::text::{printable, thousands};
use ocelli_datasets::Split;
use ocelli_pipeline::{DryRun, Event, MemoryEstimate, Timing, TrainOptions, dry_run};
use serde::Serialize;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::duration;

/// Classes listed one by one; more are counted.
const MAX_CLASSES: usize = 50;

/// What `--json` prints.
#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    #[serde(flatten)]
    run: &'a DryRun,
}

/// Prints what would be trained, on what, and what it will take.
pub(crate) fn describe(options: &TrainOptions, json: bool, out: &mut Output) -> Result<(), Failure> {
    let interrupt = Interrupt::listen()?;
    let run =
        dry_run(options, &interrupt.stop, &mut |_: &Event| {}).map_err(|error| interrupt.failure(error))?;
    if json {
        return out.json(&Record { schema: 1, r#type: "dry_run", run: &run });
    }
    data(&run, out)?;
    network(&run, out)?;
    memory(&run.memory, out)?;
    match &run.timing {
        Some(timing) => time(&run, timing, out)?,
        None => out.line("time: none of the images that were tried can be read")?,
    }
    for note in &run.notes {
        out.line(format_args!("note: {}", printable(note)))?;
    }
    out.line("")?;
    out.line(run.recipe.trim_end())
}

fn data(run: &DryRun, out: &mut Output) -> Result<(), Failure> {
    let (images, count) = (thousands(run.images as u64), run.classes.len());
    out.line(format_args!("{} ({}): {images} images in {count} classes", printable(&run.name), run.kind))?;
    for (name, images) in run.classes.iter().take(MAX_CLASSES) {
        out.line(format_args!("{:>9}  {}", thousands(*images as u64), printable(name)))?;
    }
    if count > MAX_CLASSES {
        out.line(format_args!("           and {} more classes", count - MAX_CLASSES))?;
    }
    let declared = |split: Split| run.splits.contains_key(&split.to_string());
    let how = match (run.splits.is_empty(), declared(Split::Val)) {
        (true, _) => "no splits declared, a part of each class is taken",
        (false, true) => "as declared",
        (false, false) => "no validation images declared, a part of the training images is taken",
    };
    let [train, val, test] = run.split_sizes.map(|images| thousands(images as u64));
    out.line(format_args!("train {train}, validation {val}, test {test}: {how}"))
}

fn network(run: &DryRun, out: &mut Output) -> Result<(), Failure> {
    let name = |text: &str| text.chars().count();
    let widest = run.layers.iter().map(|layer| name(&layer.name)).max().unwrap_or(0).clamp(5, 40);
    out.line("")?;
    let [output, parameters, macs, memory] = ["output", "parameters", "multiply-adds", "memory/image"];
    out.line(format_args!(
        "{:widest$}  {:15}  {output:>13}  {parameters:>12}  {macs:>15}  {memory:>12}",
        "layer", "operation"
    ))?;
    for layer in &run.layers {
        let [h, w, c] = layer.output;
        out.line(format_args!(
            "{:widest$}  {:15}  {:>13}  {:>12}  {:>15}  {:>12}",
            printable(&layer.name),
            layer.op,
            format!("{h}x{w}x{c}"),
            thousands(layer.parameters as u64),
            thousands(layer.macs),
            size(layer.activation_bytes)
        ))?;
    }
    out.line(format_args!(
        "{} parameters, {} multiply-adds for an image, model file about {}",
        thousands(run.parameters as u64),
        thousands(run.macs),
        size(run.model_bytes)
    ))
}

fn memory(memory: &MemoryEstimate, out: &mut Output) -> Result<(), Failure> {
    out.line(format_args!(
        "memory of training about {}: network {}, parameters {}, images {}, work {}, program {}",
        size(memory.total()),
        size(memory.plan),
        size(memory.parameters),
        size(memory.images),
        size(memory.work),
        size(memory.program)
    ))
}

fn time(run: &DryRun, timing: &Timing, out: &mut Output) -> Result<(), Failure> {
    let steps: Vec<String> = timing.steps_s.iter().map(|&step| duration(step as f32)).collect();
    out.line(format_args!(
        "{} steps of {} images, on {} images of the data: {}; {:.0} images/s",
        steps.len(),
        timing.batch,
        timing.decoded,
        steps.join(", "),
        timing.images_per_second
    ))?;
    out.line(format_args!(
        "about {}: {} epochs of {} steps and a validation on {} images ({} each), {} to read the images",
        duration(timing.run_s as f32),
        timing.epochs,
        thousands(timing.steps_per_epoch as u64),
        thousands(run.split_sizes[1] as u64),
        duration(timing.epoch_s as f32),
        duration(timing.loading_s as f32)
    ))
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
