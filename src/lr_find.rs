//! `ocelli lr-find`: a learning rate range test on the data.

use std::path::PathBuf;

use ocelli_common::text::printable;
use ocelli_pipeline::{LrFind, write_atomic};
use serde::Serialize;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::Progress;
use crate::train::Input;

/// Columns and rows of the curve on the terminal.
const COLUMNS: usize = 64;
const ROWS: usize = 12;
/// Times the lowest loss up to which the curve is drawn: what has diverged would flatten the rest.
const SHOWN: f32 = 4.0;

/// Find a learning rate: up to 100 steps from 1e-7 to 10, whose loss says which rates teach most
///
/// The weights are not kept. `ocelli train DATA --lr auto` does the same and trains with the rate in the valley.
#[derive(Debug, clap::Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
    /// Folder that receives lr_find.csv and lr_find.svg
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The curve and the suggestions as one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Record<'a> {
    schema: u32,
    r#type: &'static str,
    #[serde(flatten)]
    found: &'a LrFind,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let options = args.input.options(None, PathBuf::new(), None)?;
    if let Some(folder) = &args.out {
        // Before the steps: a folder that cannot be written.
        std::fs::create_dir_all(folder).map_err(|error| Failure::io(folder, &error))?;
    }
    let interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(out, false);
    let found = ocelli_pipeline::lr_find(&options, &interrupt.stop, &mut |event| progress.show(event, out));
    progress.finish();
    let found = found.map_err(|error| interrupt.failure(error))?;
    if let Some(folder) = &args.out {
        for (name, text) in [("lr_find.csv", found.to_csv()), ("lr_find.svg", found.to_svg())] {
            write_atomic(&folder.join(name), text.as_bytes())?;
        }
    }
    if args.json {
        return out.json(&Record { schema: 1, r#type: "lr_find", found: &found });
    }
    for line in curve(&found) {
        out.line(line)?;
    }
    match (found.valley, found.steepest) {
        (Some(valley), Some(steepest)) => {
            out.line(format_args!("valley {valley:.2e}"))?;
            out.line(format_args!("steepest {steepest:.2e}"))?;
            out.say(format_args!("try it: ocelli train ... --lr {valley:.2e}"));
        }
        _ => out.line("no suggestion: the loss does not fall at any of these rates")?,
    }
    if let Some(folder) = &args.out {
        out.say(format_args!(
            "lr_find.csv and lr_find.svg are in {}",
            printable(&folder.display().to_string())
        ));
    }
    Ok(())
}

/// The smoothed loss over the rate in characters, one line of the terminal each.
fn curve(found: &LrFind) -> Vec<String> {
    let losses = || found.points.iter().map(|point| point.smoothed);
    let low = losses().fold(f32::INFINITY, f32::min);
    let high = losses().fold(f32::NEG_INFINITY, f32::max).min(SHOWN * low);
    if !(low.is_finite() && high.is_finite()) {
        return vec!["the loss was not a number at the first step".to_owned()];
    }
    let count = found.points.len();
    let width = COLUMNS.min(count);
    let mut rows = vec![vec![' '; width]; ROWS];
    for column in 0..width {
        let from = column * count / width;
        let to = ((column + 1) * count / width).max(from + 1);
        let mean =
            found.points[from..to].iter().map(|point| point.smoothed).sum::<f32>() / (to - from) as f32;
        let height = (mean.min(high) - low) / (high - low).max(f32::MIN_POSITIVE);
        let row = ((1.0 - height) * (ROWS - 1) as f32).round() as usize;
        rows[row.min(ROWS - 1)][column] = '*';
    }
    let last = rows.len() - 1;
    let mut lines: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(row, marks)| {
            let label = match row {
                0 => format!("{high:8.3}"),
                row if row == last => format!("{low:8.3}"),
                _ => " ".repeat(8),
            };
            format!("{label} |{}", marks.iter().collect::<String>().trim_end())
        })
        .collect();
    let (first, end) = (found.points[0].lr, found.points[count - 1].lr);
    let end = format!("{end:.0e}");
    let first = format!("{first:.0e}");
    lines.push(format!("{:8} +{}", "", "-".repeat(width)));
    let gap = width.saturating_sub(first.len() + end.len()).max(1);
    lines.push(format!("{:8}  {first}{}{end}  learning rate", "", " ".repeat(gap)));
    lines
}

#[cfg(test)]
mod tests {
    use ocelli_pipeline::LrPoint;

    use super::*;

    #[test]
    fn a_curve_of_any_length_is_drawn() {
        for count in [0, 1, 3, 64, 100] {
            let point = |i: usize| LrPoint { lr: 1e-7, loss: 1.0, smoothed: 1.0 + (i % 7) as f32 };
            let points = (0..count).map(point).collect();
            let lines = curve(&LrFind { points, steepest: None, valley: None, diverged: false });
            assert!(lines.iter().all(|line| line.len() <= 8 + 2 + COLUMNS + 15), "{lines:?}");
            let marks: usize = lines[..lines.len().min(ROWS)].iter().map(|l| l.matches('*').count()).sum();
            assert_eq!(marks, count.min(COLUMNS));
        }
    }
}
