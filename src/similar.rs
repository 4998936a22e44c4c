//! `ocelli similar`: images that look like one, near duplicates, labels that look wrong.

use std::path::{Path, PathBuf};

use ocelli_common::text::{chain, count, printable};
use ocelli_pipeline::{Embeddings, LabelSuspect, Neighbour, Pair, Pool, Predictor};
use serde::Serialize;

use crate::embed::{all_read, embeddings};
use crate::failure::Failure;
use crate::image_files::read;
use crate::output::{Output, Style};
use crate::{compute, paths};

/// How many similar images are named.
const SIMILAR: usize = 10;
/// Similarity from which two images are taken for copies of one. Measured with `imagenet` on 330 supermarket photos: the nearest
/// other photo is at most at 0.931; of copies, nine in ten saved at JPEG quality 60, cut by 5 % or mirrored are above.
const DUPLICATE: f32 = 0.94;
/// How many neighbours vote on a label.
const VOTERS: usize = 5;

const AFTER_HELP: &str = "\
  ocelli similar photo.jpg photos/        the images that look most like this one
  ocelli similar photos/ --duplicates     pairs that are nearly the same image
  ocelli similar photos/ --suspects       images whose neighbours have another label

Similarity is the cosine of the angle between features: 1 for the same image, whatever its size.";

/// Find similar images, near duplicates and doubtful labels
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// An image, or - for standard input, and the images to search; only the latter with --duplicates or --suspects
    #[arg(required = true, num_args = 1..=2, value_name = "IMAGE DATA")]
    paths: Vec<PathBuf>,
    /// Pairs of images that are nearly the same
    #[arg(long, conflicts_with = "suspects")]
    duplicates: bool,
    /// Images of which most neighbours have one other label
    #[arg(long)]
    suspects: bool,
    /// Least similarity of duplicates
    #[arg(long, value_name = "PART", default_value_t = DUPLICATE, value_parser = parse_similarity)]
    threshold: f32,
    /// How many images to name, or with --suspects how many neighbours vote; 10, or 5
    #[arg(short = 'k', long, value_name = "N", value_parser = parse_number)]
    neighbours: Option<usize>,
    /// A .ocelli file, a run folder, or a model in this program: imagenet, fashion-mnist
    #[arg(short, long, default_value = "imagenet")]
    model: PathBuf,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: compute::Settings,
}

fn parse_similarity(text: &str) -> Result<f32, String> {
    let part = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| "write a number from 0 to 1, e.g. 0.94".to_owned())
}

fn parse_number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "write a number from 1 on".to_owned())
}

#[derive(Serialize)]
struct Similar<'a> {
    schema: u32,
    r#type: &'static str,
    rank: usize,
    name: &'a str,
    class: Option<&'a str>,
    similarity: f32,
}

#[derive(Serialize)]
struct Duplicate<'a> {
    schema: u32,
    r#type: &'static str,
    first: &'a str,
    second: &'a str,
    similarity: f32,
}

#[derive(Serialize)]
struct Doubtful<'a> {
    schema: u32,
    r#type: &'static str,
    name: &'a str,
    class: &'a str,
    /// The class of most neighbours, and the part of them that has it.
    neighbours: &'a str,
    share: f32,
    nearest: &'a str,
    similarity: f32,
}

#[derive(Serialize)]
struct Found {
    schema: u32,
    r#type: &'static str,
    images: usize,
    found: usize,
    shown: usize,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let (query, data) = match (args.paths.as_slice(), args.duplicates || args.suspects) {
        ([data], true) => (None, data),
        ([image, data], false) => (Some(image), data),
        ([_], false) => {
            return Err(Failure::usage(
                "one path is not enough",
                "`ocelli similar IMAGE DATA`, or `ocelli similar DATA --duplicates` or `--suspects`",
            ));
        }
        (_, true) => {
            return Err(Failure::usage(
                "duplicates and suspects are searched in one data set",
                "`ocelli similar DATA --duplicates`",
            ));
        }
        (_, false) => unreachable!("one or two paths are parsed"),
    };
    // A missing image is found before a large folder is read.
    let image = query.map(|path| read(path).map_err(|error| Failure::io(path, &error))).transpose()?;
    let (found, mut predictor) = embeddings(data, &args.model, args.compute, out)?;
    let pool = predictor.exec().pool.clone();
    let mut teller = Teller { found: &found, json: args.json, out };
    match (query, image) {
        (Some(path), Some(bytes)) => {
            let features = features(path, &bytes, &mut predictor)?;
            let near = found.similar(&features, args.neighbours.unwrap_or(SIMILAR), &pool)?;
            teller.similar(&near)?;
        }
        _ if args.duplicates => teller.duplicates(args.threshold, &pool)?,
        _ => teller.suspects(args.neighbours.unwrap_or(VOTERS), &pool)?,
    }
    all_read(&found)
}

/// The features of one image file.
fn features(path: &Path, bytes: &[u8], predictor: &mut Predictor) -> Result<Vec<f32>, Failure> {
    let prepared = predictor.decoder().prepare(bytes).map_err(|error| {
        let reason = paths::no_image(path, bytes).map_or_else(|| chain(&error), str::to_owned);
        Failure::failed(
            format!("{}: {reason}", path.display()),
            "JPEG, PNG, WebP, BMP, GIF and TIFF files are understood",
        )
    })?;
    let mut features = Vec::new();
    predictor.features(&[prepared], &mut features)?;
    Ok(features)
}

/// Tells what was found.
struct Teller<'a> {
    found: &'a Embeddings,
    json: bool,
    out: &'a mut Output,
}

impl Teller<'_> {
    fn similar(&mut self, near: &[Neighbour]) -> Result<(), Failure> {
        for (rank, &Neighbour { index, similarity }) in near.iter().enumerate() {
            let (name, class) = (self.found.names[index].as_str(), self.found.class(index));
            if self.json {
                let (rank, schema) = (rank + 1, 1);
                self.out.json(&Similar { schema, r#type: "similar", rank, name, class, similarity })?;
            } else {
                let class =
                    class.map(|class| self.dim(&format!("  {}", printable(class)))).unwrap_or_default();
                self.out.line(format_args!("{similarity:.4}  {}{class}", printable(name)))?;
            }
        }
        Ok(())
    }

    fn duplicates(&mut self, threshold: f32, pool: &Pool) -> Result<(), Failure> {
        let all = self.found.duplicates(threshold, pool)?;
        for &Pair { first, second, similarity } in &all.pairs {
            let [first, second] = [first, second].map(|index| self.found.names[index].as_str());
            if self.json {
                self.out.json(&Duplicate { schema: 1, r#type: "duplicate", first, second, similarity })?;
            } else {
                let (first, second) = (printable(first), printable(second));
                self.out.line(format_args!("{similarity:.4}  {first}  {second}"))?;
            }
        }
        self.sum("duplicates", "pair", (all.found, all.pairs.len()))
    }

    fn suspects(&mut self, k: usize, pool: &Pool) -> Result<(), Failure> {
        if self.found.labels.is_empty() {
            return Err(Failure::usage(
                "these images have no labels",
                "doubtful labels are searched in labelled images, as `ocelli train` takes them",
            ));
        }
        let all = self.found.suspects(k, pool)?;
        for LabelSuspect { index, class, neighbours, share, nearest, .. } in &all {
            let (name, near) = (self.found.names[*index].as_str(), self.found.names[nearest.index].as_str());
            let [class, neighbours] =
                [class, neighbours].map(|&class| self.found.classes[class as usize].as_str());
            let (share, similarity) = (*share, nearest.similarity);
            if self.json {
                self.out.json(&Doubtful {
                    schema: 1,
                    r#type: "suspect",
                    name,
                    class,
                    neighbours,
                    share,
                    nearest: near,
                    similarity,
                })?;
            } else {
                let [name, class, neighbours, near] = [name, class, neighbours, near].map(printable);
                let about = self.dim(&format!(
                    "{:.0} % of its neighbours, nearest {near} {similarity:.4}",
                    100.0 * share
                ));
                self.out.line(format_args!("{name}  labelled {class}, looks like {neighbours}  {about}"))?;
            }
        }
        self.sum("suspects", "doubtful label", (all.len(), all.len()))
    }

    /// How many there are in all, and of how many images.
    fn sum(&mut self, kind: &'static str, noun: &str, (found, shown): (usize, usize)) -> Result<(), Failure> {
        let images = self.found.images();
        if self.json {
            return self.out.json(&Found { schema: 1, r#type: kind, images, found, shown });
        }
        let more = if shown < found { format!(", the {shown} most similar shown") } else { String::new() };
        self.out.say(format_args!("{} in {}{more}", count(found, noun), count(images, "image")));
        Ok(())
    }

    fn dim(&self, text: &str) -> String {
        self.out.paint.apply(Style::Dim, text)
    }
}
