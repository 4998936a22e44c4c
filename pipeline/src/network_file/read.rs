//! From a text to layers: words, settings, names. Shapes are checked where the graph is built.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ocelli_engine::graph::{BatchNorm, Conv2d, Dense, MAX_NODES, Padding, Pool2d};
use ocelli_engine::{Activation, Op};
use serde::Deserialize;
use toml::{Spanned, Value};

use super::layer::{CLASSES, IMAGE, Layer, NetworkFile, OPERATIONS, called};
use crate::error::PipelineError;

/// Largest text of a network in bytes: 4096 layers with long names fit.
pub const MAX_NETWORK_TEXT: u64 = 1 << 20;

/// The file as TOML has it. Settings stay values, so that an error can say what a layer takes instead of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    layer: Vec<Spanned<BTreeMap<String, Spanned<Value>>>>,
}

impl NetworkFile {
    /// Reads a network's file of at most 1 MiB.
    ///
    /// # Errors
    /// [`PipelineError::Io`], and those of [`NetworkFile::parse`].
    pub fn read(path: &Path) -> Result<Self, PipelineError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_NETWORK_TEXT + 1).read_to_end(&mut bytes))
            .map_err(PipelineError::io(path))?;
        let file = path.display().to_string();
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&file, text),
            Err(_) => Err(error(&file, None, None, "is not UTF-8 text")),
        }
    }

    /// Reads a network's text; errors call it `file`.
    ///
    /// # Errors
    /// [`PipelineError::Network`] for a text over 1 MiB, more than 4096 layers, what is not TOML, and the first layer
    /// whose operation, settings, name or inputs are not understood.
    pub fn parse(file: &str, text: String) -> Result<Self, PipelineError> {
        if text.len() as u64 > MAX_NETWORK_TEXT {
            return Err(error(file, None, None, format!("more than {MAX_NETWORK_TEXT} bytes")));
        }
        let lines = Lines::of(&text);
        let tables: Tables = toml::from_str(&text).map_err(|found| {
            let line = found.span().map(|span| lines.at(span.start));
            error(file, line, None, found.message().replace('\n', "; "))
        })?;
        if tables.layer.is_empty() {
            return Err(error(file, None, None, "no layers: write one [[layer]] for each"));
        }
        if tables.layer.len() > MAX_NODES {
            let reason = format!("{} layers are more than {MAX_NODES}", tables.layer.len());
            return Err(error(file, None, None, reason));
        }
        let mut layers = Vec::with_capacity(tables.layer.len());
        let mut values = HashMap::from([(IMAGE.to_owned(), 0)]);
        for (number, table) in tables.layer.into_iter().enumerate() {
            let start = lines.at(table.span().start);
            let values_of_layer = table.into_inner();
            let line = |(key, value): (&String, &Spanned<Value>)| (key.clone(), lines.at(value.span().start));
            let mut settings = Settings {
                file,
                start,
                called: called(number, None, None),
                lines: values_of_layer.iter().map(line).collect(),
                values: values_of_layer,
            };
            let layer = settings.layer(number, &values)?;
            let name = layer.name.clone();
            if values.insert(name.clone(), number as u32 + 1).is_some() {
                let reason = match name.as_str() {
                    IMAGE => format!("`{IMAGE}` is what the image is called; choose another name"),
                    _ => "another layer has the same name; choose another one".to_owned(),
                };
                return Err(settings.fail("name", reason));
            }
            layers.push(layer);
        }
        Ok(NetworkFile { file: file.to_owned(), text, layers })
    }
}

fn error(file: &str, line: Option<usize>, layer: Option<String>, reason: impl Into<String>) -> PipelineError {
    PipelineError::Network { file: file.to_owned(), line, layer, reason: reason.into() }
}

/// Where the lines of a text end.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// Line, from 1, of a place in the text.
    fn at(&self, place: usize) -> usize {
        1 + self.0.partition_point(|&end| end < place)
    }
}

/// The settings of one layer that were not looked at yet.
struct Settings<'a> {
    file: &'a str,
    /// Line on which the layer's table begins.
    start: usize,
    /// What errors call the layer.
    called: String,
    /// Line of each setting, also of those that were looked at.
    lines: BTreeMap<String, usize>,
    values: BTreeMap<String, Spanned<Value>>,
}

impl Settings<'_> {
    /// The layer, for the values that layers before it give.
    fn layer(&mut self, number: usize, values: &HashMap<String, u32>) -> Result<Layer, PipelineError> {
        let op_line = self.line("op");
        let given_name = self.take("name", "a text", |value| value.as_str().map(str::to_owned))?;
        self.called = called(number, given_name.as_deref(), None);
        let Some(word) = self.take("op", "a text", |value| value.as_str().map(str::to_owned))? else {
            let reason = format!("has no `op`; choose one of {}", operation_words());
            return Err(self.fail("op", reason));
        };
        let Some(&(word, taken)) = OPERATIONS.iter().find(|(known, _)| *known == word) else {
            let reason = format!("`{word}` is no operation; choose one of {}", operation_words());
            return Err(self.fail("op", reason));
        };
        self.called = called(number, given_name.as_deref(), Some(word));
        // Before settings are missed: a misspelt one is both unknown and missing.
        let unknown = |key: &&String| !taken.contains(&key.as_str()) && *key != "inputs";
        if let Some(key) = self.values.keys().find(unknown).cloned() {
            let takes = if taken.is_empty() { "none".to_owned() } else { taken.join(", ") };
            return Err(self.fail(&key, format!("has no setting `{key}`; its settings: {takes}")));
        }
        let (op, of_classes) = self.op(word)?;
        let inputs = self.inputs(number, values, &op)?;
        let name = given_name.unwrap_or_else(|| format!("{word}_{}", number + 1));
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            return Err(self.fail("name", "a name has 1 to 128 bytes and no line breaks"));
        }
        Ok(Layer { name, line: op_line, op, of_classes, inputs })
    }

    /// The operation, and whether its units or filters are as many as there are classes.
    fn op(&mut self, word: &str) -> Result<(Op, bool), PipelineError> {
        let op = match word {
            "conv2d" => {
                let (filters, of_classes) = self.count("filters")?;
                let conv = Conv2d {
                    filters,
                    kernel: self.needed_pair("kernel")?,
                    stride: self.pair("stride")?.unwrap_or([1; 2]),
                    dilation: self.pair("dilation")?.unwrap_or([1; 2]),
                    padding: self.padding()?,
                    groups: self.take("groups", POSITIVE, positive)?.unwrap_or(1),
                    bias: self.bias()?,
                };
                return Ok((Op::Conv2d(conv), of_classes));
            }
            "dense" => {
                let (units, of_classes) = self.count("units")?;
                return Ok((Op::Dense(Dense { units, bias: self.bias()? }), of_classes));
            }
            "batch_norm" => {
                let BatchNorm { momentum, eps } = BatchNorm::default();
                Op::BatchNorm(BatchNorm {
                    momentum: self.take("momentum", "a number", number)?.unwrap_or(momentum),
                    eps: self.take("eps", "a number", number)?.unwrap_or(eps),
                })
            }
            "dropout" => match self.take("rate", "a number", number)? {
                Some(rate) => Op::Dropout { rate },
                None => return Err(self.fail("rate", "needs a `rate`, e.g. rate = 0.3")),
            },
            "max_pool" => Op::MaxPool2d(self.pool()?),
            "avg_pool" => Op::AvgPool2d(self.pool()?),
            "relu" => Op::Activation(Activation::Relu),
            "relu6" => Op::Activation(Activation::Relu6),
            "gelu" => Op::Activation(Activation::Gelu),
            "silu" => Op::Activation(Activation::Silu),
            "sigmoid" => Op::Activation(Activation::Sigmoid),
            "hard_sigmoid" => Op::Activation(Activation::HardSigmoid),
            "hard_swish" => Op::Activation(Activation::HardSwish),
            "tanh" => Op::Activation(Activation::Tanh),
            "leaky_relu" => match self.take("slope", "a number", number)? {
                Some(slope) => Op::Activation(Activation::LeakyRelu { slope }),
                None => return Err(self.fail("slope", "needs a `slope`, e.g. slope = 0.01")),
            },
            "clip" => {
                let min = self.take("min", "a number", number)?.unwrap_or(f32::NEG_INFINITY);
                let max = self.take("max", "a number", number)?.unwrap_or(f32::INFINITY);
                Op::Activation(Activation::Clip { min, max })
            }
            "channel_gather" => {
                let list = |value: &Value| {
                    let channels = value.as_array()?.iter().map(|c| u32::try_from(c.as_integer()?).ok());
                    channels.collect::<Option<Vec<u32>>>()
                };
                match self.take("channels", "a list of channels from 0, e.g. [2, 1, 0]", list)? {
                    Some(channels) => Op::ChannelGather { channels },
                    None => return Err(self.fail("channels", "needs `channels`, e.g. channels = [2, 1, 0]")),
                }
            }
            "global_avg_pool" => Op::GlobalAvgPool,
            "global_max_pool" => Op::GlobalMaxPool,
            "flatten" => Op::Flatten,
            "add" => Op::Add,
            "concat" => Op::Concat,
            "channel_scale" => Op::ChannelScale,
            _ => unreachable!("every word of OPERATIONS has its arm; a test reads each"),
        };
        Ok((op, false))
    }

    fn pool(&mut self) -> Result<Pool2d, PipelineError> {
        let kernel = self.needed_pair("kernel")?;
        Ok(Pool2d { kernel, stride: self.pair("stride")?.unwrap_or(kernel), padding: self.padding()? })
    }

    fn bias(&mut self) -> Result<bool, PipelineError> {
        Ok(self.take("bias", "true or false", Value::as_bool)?.unwrap_or(true))
    }

    /// A number of channels, or that of the classes.
    fn count(&mut self, key: &'static str) -> Result<(u32, bool), PipelineError> {
        let count = |value: &Value| match value.as_str() {
            Some(CLASSES) => Some((1, true)),
            _ => positive(value).map(|count| (count, false)),
        };
        let expected = "a whole number from 1 on, or \"classes\" for as many as there are classes";
        let example = format!("needs `{key}`, e.g. {key} = 64");
        self.take(key, expected, count)?.ok_or_else(|| self.fail(key, example))
    }

    fn needed_pair(&mut self, key: &'static str) -> Result<[u32; 2], PipelineError> {
        let example = format!("needs a `{key}`, e.g. {key} = 3");
        self.pair(key)?.ok_or_else(|| self.fail(key, example))
    }

    /// Height and width, which one number gives as well.
    fn pair(&mut self, key: &'static str) -> Result<Option<[u32; 2]>, PipelineError> {
        self.take(key, "a whole number from 1 on, or two: [height, width]", |value| match value.as_array() {
            Some(both) => numbers::<2>(both).filter(|both| !both.contains(&0)),
            None => positive(value).map(|side| [side; 2]),
        })
    }

    fn padding(&mut self) -> Result<Padding, PipelineError> {
        let expected = "\"same\", \"valid\", a number of pixels, or four: [above, below, left, right]";
        let padding = self.take("padding", expected, |value| match (value.as_str(), value.as_array()) {
            (Some("same"), _) => Some(Padding::Same),
            (Some("valid"), _) => Some(Padding::Valid),
            (_, Some(sides)) => numbers::<4>(sides).map(Padding::Explicit),
            _ => whole(value).map(|side| Padding::Explicit([side; 4])),
        })?;
        Ok(padding.unwrap_or(Padding::Valid))
    }

    /// The values that the layer reads: those that are named, or the last one.
    fn inputs(
        &mut self,
        number: usize,
        values: &HashMap<String, u32>,
        op: &Op,
    ) -> Result<Vec<u32>, PipelineError> {
        let names = |value: &Value| {
            let names = value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned));
            names.collect::<Option<Vec<String>>>()
        };
        let expected = "a list of names, e.g. [\"conv2d_1\", \"input\"]";
        let inputs = match self.take("inputs", expected, names)? {
            None => vec![number as u32],
            Some(names) => {
                let mut inputs = Vec::with_capacity(names.len());
                for name in names {
                    let Some(&value) = values.get(&name) else {
                        let reason = format!(
                            "reads `{name}`, which no layer before it is called; `{IMAGE}` is the image, and a layer is called by \
                             its name, or by its operation and number, e.g. conv2d_1"
                        );
                        return Err(self.fail("inputs", reason));
                    };
                    inputs.push(value);
                }
                inputs
            }
        };
        let arity = op.arity();
        if !arity.contains(&inputs.len()) {
            let needs = match (*arity.start(), *arity.end()) {
                (1, 1) => "one input".to_owned(),
                (least, most) if least == most => format!("{least} inputs"),
                (least, most) => format!("{least} to {most} inputs"),
            };
            let reason = format!("needs {needs}, has {}: name them by `inputs`", inputs.len());
            return Err(self.fail("inputs", reason));
        }
        Ok(inputs)
    }

    /// Takes a setting, if it is there, by what `read` makes of it.
    fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, PipelineError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let Some(read) = read(value.get_ref()) else {
            return Err(self.fail(key, format!("`{key}` must be {expected}")));
        };
        self.values.remove(key);
        Ok(Some(read))
    }

    /// The line of a setting, or else that of the layer.
    fn line(&self, key: &str) -> usize {
        self.lines.get(key).copied().unwrap_or(self.start)
    }

    fn fail(&self, key: &str, reason: impl Into<String>) -> PipelineError {
        error(self.file, Some(self.line(key)), Some(self.called.clone()), reason)
    }
}

const POSITIVE: &str = "a whole number from 1 on";

fn whole(value: &Value) -> Option<u32> {
    value.as_integer().and_then(|number| u32::try_from(number).ok())
}

fn positive(value: &Value) -> Option<u32> {
    whole(value).filter(|&number| number > 0)
}

fn number(value: &Value) -> Option<f32> {
    value.as_float().or_else(|| value.as_integer().map(|number| number as f64)).map(|number| number as f32)
}

fn numbers<const N: usize>(values: &[Value]) -> Option<[u32; N]> {
    let numbers: Option<Vec<u32>> = values.iter().map(whole).collect();
    numbers?.try_into().ok()
}

fn operation_words() -> String {
    OPERATIONS.map(|(word, _)| word).join(", ")
}
