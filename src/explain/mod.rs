//! `ocelli explain`: what in an image speaks for a class.

mod files;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocelli_common::atomic_file;
use ocelli_common::text::{count, printable};
use ocelli_datasets::Prepared;
use ocelli_pipeline::explain::{
    ExplainMethod, ExplainOptions, Explainer, Explanation, HeatMap, Picture, contact_sheet,
};
use ocelli_pipeline::{PipelineError, default_model, open_model, pool};
use serde::Serialize;

use crate::failure::{Failure, Message};
use crate::image_files::{decode, images_of, note, print_refused};
use crate::interrupt::Interrupt;
use crate::output::{Output, Style};
use crate::{compute, paths};
use files::{Names, is_picture};

/// Images that are explained at a time, and pictures of a contact sheet.
const CHUNK: usize = 64;
/// Pixels that the longer side of a picture has at least: what a network sees may be as small as a stamp.
const LEAST_SIDE: usize = 224;
/// The same on a contact sheet.
const LEAST_SIDE_OF_MANY: usize = 96;

const AFTER_HELP: &str = "\
  ocelli explain -m runs/pets-001 cat.jpg               cat.explain.png: image, map, both
  ocelli explain -m imagenet cat.jpg --class tabby      what speaks for one class
  ocelli explain -m runs/pets-001 photos/ -o maps/      maps/photos.explain.png: a contact sheet

Bright places speak for the class. A map says where the network found what it goes by, and not that it is right.";

/// Show what in an image speaks for a class
///
/// Writes a PNG for each image: the image as the network sees it, a heat map, and the map over the image. A folder gives
/// contact sheets of up to 64 images with their maps. A file that cannot be read is named on standard error and the others go
/// on; the exit code is 1 then.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Image files, folders with images, or - for one image from standard input; a model may come first
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A .ocelli file, a run folder, or a model in this program: imagenet, fashion-mnist (if left out)
    #[arg(short, long)]
    model: Option<PathBuf>,
    /// The class that the map is about; the likeliest one of each image if left out
    #[arg(short, long, value_name = "NAME")]
    class: Option<String>,
    /// How the map is made
    #[arg(long, value_enum, default_value_t = Method::Gradcam)]
    method: Method,
    /// The layer whose values the map is made from; the last one whose output has more than one pixel if left out
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// A PNG file, or a folder; the current folder if left out, with names like NAME.explain.png
    #[arg(short, long, value_name = "FILE|FOLDER")]
    out: Option<PathBuf>,
    /// Replace pictures that are there already
    #[arg(long)]
    overwrite: bool,
    /// Search folders within folders too
    #[arg(short, long)]
    recursive: bool,
    /// Also print each map as text
    #[arg(long, conflicts_with = "json")]
    ascii: bool,
    /// One JSON object a line, with the values of the map
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: compute::Settings,
}

/// How a map is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    /// Channels of a layer, weighed by the gradient of the class (Grad-CAM)
    Gradcam,
    /// The same for every pixel by itself, finer in earlier layers (LayerCAM)
    Layercam,
    /// What hiding a part of the image takes from the probability; some hundred passes, any network
    Occlusion,
}

impl From<Method> for ExplainMethod {
    fn from(method: Method) -> ExplainMethod {
        match method {
            Method::Gradcam => ExplainMethod::GradCam,
            Method::Layercam => ExplainMethod::LayerCam,
            Method::Occlusion => ExplainMethod::Occlusion,
        }
    }
}

#[derive(Serialize)]
struct Explained<'a> {
    schema: u32,
    r#type: &'static str,
    path: String,
    class: &'a str,
    index: usize,
    probability: f32,
    method: ExplainMethod,
    /// None for occlusion.
    layer: Option<&'a str>,
    model_version: &'a str,
    /// The picture, which may be a contact sheet.
    file: String,
    /// At the resolution of the layer, or of the parts that were hidden.
    map: &'a HeatMap,
}

/// Images whose pictures belong together.
struct Unit {
    images: Vec<PathBuf>,
    files: Files,
}

enum Files {
    /// A picture of each image.
    Each(Vec<PathBuf>),
    /// One of all.
    Sheet(PathBuf),
}

pub(crate) fn run(mut args: Args, out: &mut Output) -> Result<(), Failure> {
    let model = paths::model_before_images(args.model.take(), &mut args.paths, "explain")?;
    let options = ExplainOptions { method: args.method.into(), layer: args.layer.clone() };
    if options.method == ExplainMethod::Occlusion && options.layer.is_some() {
        return Err(Failure::usage("occlusion looks at no layer", "leave `--layer` or `--method` out"));
    }
    let file = match &model {
        Some(path) => open_model(path)?,
        None => default_model()?,
    };
    let explainer = Explainer::new(&file, &options, args.compute.into())?;
    let class = args.class.as_deref().map(|name| explainer.class(name)).transpose()?;
    let interrupt = Interrupt::listen()?;
    let mut job = Job { explainer, class, ascii: args.ascii, json: args.json, interrupt, failed: 0, out };
    let units = job.units(&args)?;
    for unit in &units {
        job.explain(unit)?;
    }
    match job.failed {
        0 => Ok(()),
        n => Err(Failure::failed(
            format!("{} not explained", count(n, "file")),
            "convert or leave out the files named above",
        )),
    }
}

struct Job<'a> {
    explainer: Explainer,
    class: Option<usize>,
    ascii: bool,
    json: bool,
    interrupt: Arc<Interrupt>,
    failed: usize,
    out: &'a mut Output,
}

impl Job<'_> {
    /// What is to be explained, and the names of all pictures, before any work is done.
    fn units(&mut self, args: &Args) -> Result<Vec<Unit>, Failure> {
        // Images in a row go together; a folder is by itself.
        let mut groups: Vec<(Option<&Path>, Vec<PathBuf>)> = Vec::new();
        for path in &args.paths {
            if path.is_dir() {
                groups.push((Some(path), self.images_of(path, args.recursive)?));
            } else if let Some((None, images)) = groups.last_mut() {
                images.push(path.clone());
            } else {
                groups.push((None, vec![path.clone()]));
            }
        }
        let pictures = groups.iter().map(|(folder, images)| match folder {
            Some(_) => images.len().div_ceil(CHUNK),
            None => images.len(),
        });
        let mut names = Names::new(args.out.as_deref(), pictures.sum(), args.overwrite)?;
        let mut units = Vec::new();
        for (folder, images) in &groups {
            for images in images.chunks(CHUNK) {
                let files = match folder {
                    Some(folder) => Files::Sheet(names.next(folder)?),
                    None => {
                        Files::Each(images.iter().map(|image| names.next(image)).collect::<Result<_, _>>()?)
                    }
                };
                units.push(Unit { images: images.to_vec(), files });
            }
        }
        Ok(units)
    }

    /// The images of a folder; pictures of an earlier call are none.
    fn images_of(&mut self, folder: &Path, recursive: bool) -> Result<Vec<PathBuf>, Failure> {
        let mut images = match images_of(folder, recursive, self.json, self.out)? {
            Ok(images) => images,
            Err(reason) => {
                self.refuse(folder, &reason)?;
                return Ok(Vec::new());
            }
        };
        let all = images.len();
        images.retain(|image| !is_picture(image));
        if images.len() < all {
            let pictures = count(all - images.len(), "picture");
            note(&format!("{pictures} of this command left out"), self.json, self.out)?;
        }
        if images.is_empty() {
            self.refuse(folder, "no images in this folder but pictures of this command")?;
        }
        Ok(images)
    }

    fn explain(&mut self, unit: &Unit) -> Result<(), Failure> {
        let decoder = self.explainer.decoder();
        let decoded = pool::map(&self.explainer.exec().pool, &unit.images, |path| decode(path, &decoder))?;
        let mut places = Vec::new();
        let mut images = Vec::new();
        for (place, result) in decoded.into_iter().enumerate() {
            match result {
                Ok(image) => {
                    places.push(place);
                    images.push(image);
                }
                Err(reason) => self.refuse(&unit.images[place], &reason)?,
            }
        }
        let classes = vec![self.class; images.len()];
        let found = match self.explainer.explain(&images, &classes, &self.interrupt.stop) {
            Err(PipelineError::Stopped) => {
                let text = "stopped; pictures that are written stay".to_owned();
                let message = Message { text, hint: None };
                return Err(Failure::Interrupted { signal: self.interrupt.signal(), message });
            }
            found => found?,
        };
        match &unit.files {
            Files::Each(files) => {
                for ((place, image), found) in places.iter().zip(&images).zip(&found) {
                    let picture = self.picture(image, LEAST_SIDE);
                    write(&files[*place], &picture.panels(&found.map).png())?;
                    self.tell(&unit.images[*place], found, &files[*place])?;
                }
            }
            Files::Sheet(file) => {
                let pictures: Vec<Picture> = (images.iter().zip(&found))
                    .map(|(image, found)| self.picture(image, LEAST_SIDE_OF_MANY).overlaid(&found.map))
                    .collect();
                // Every image of it may be unreadable.
                if let Some(png) = contact_sheet(&pictures) {
                    write(file, &png)?;
                }
                for (place, found) in places.iter().zip(&found) {
                    self.tell(&unit.images[*place], found, file)?;
                }
            }
        }
        self.out.flush()
    }

    fn picture(&self, image: &Prepared, least: usize) -> Picture {
        Picture::of(image, &self.explainer.meta().preprocessing).enlarged(least)
    }

    fn refuse(&mut self, path: &Path, reason: &str) -> Result<(), Failure> {
        self.failed += 1;
        print_refused((path, reason), self.json, self.out)
    }

    fn tell(&mut self, path: &Path, found: &Explanation, file: &Path) -> Result<(), Failure> {
        let (path, file) = (path.display().to_string(), file.display().to_string());
        if self.json {
            return self.out.json(&Explained {
                schema: 1,
                r#type: "explanation",
                path,
                class: &found.class,
                index: found.index,
                probability: found.probability,
                method: self.explainer.method(),
                layer: self.explainer.layer(),
                model_version: self.explainer.version(),
                file,
                map: &found.map,
            });
        }
        let said = format!("{} {:.1}%", printable(&found.class), 100.0 * found.probability);
        let said = self.out.paint.apply(Style::Bold, said);
        self.out.line(format_args!("{}  {said}  {}", printable(&path), printable(&file)))?;
        if self.ascii {
            let pre = &self.explainer.meta().preprocessing;
            let size = (pre.width as usize, pre.height as usize);
            for line in text::lines(&found.map, size, self.out.paint) {
                self.out.line(line)?;
            }
        }
        Ok(())
    }
}

fn write(path: &Path, png: &[u8]) -> Result<(), Failure> {
    atomic_file::write(path, png).map_err(|error| Failure::io(path, &error))
}
