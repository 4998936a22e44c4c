//! Models of layers, and models of models, layer by layer.

use std::collections::HashMap;

use ocelli_engine::graph::MAX_NODES;
use serde_json::Value;

use super::builder::{Arg, Builder, Call};
use super::dispatch::{is_known, unknown};
use super::draft::{Stop, Tensor};
use super::fields::{Fields, whole};
use super::nodes::{Argument, History, calls, ends};
use super::weights::Place;
use crate::error::{ExchangeError, Unsupported};

/// How deep models lie in models.
const MAX_DEPTH: usize = 16;
/// How often the layers of a model are gone through until all have their inputs. Files list them in their order.
const MAX_ROUNDS: usize = 64;

/// A value, or `None` behind a layer that is not supported.
type Found = Option<Tensor>;

/// A layer as the configuration has it.
#[derive(Clone, Copy)]
struct Entry<'a> {
    name: &'a str,
    class: &'a str,
    config: Fields<'a>,
}

/// A call that waits for its inputs.
struct Open<'a> {
    layer: &'a Value,
    entry: Entry<'a>,
    place: Place,
    number: usize,
    call: Vec<Argument<'a>>,
}

impl<'a> Entry<'a> {
    fn of(layer: &'a Value) -> Self {
        let fields = Fields(layer);
        let config = fields.inner("config");
        // Classes that somebody registered carry the name of their package.
        let class = fields.text("class_name").unwrap_or("");
        let class = class.rsplit('>').next().unwrap_or(class);
        let name = config.text("name").or(fields.text("name")).unwrap_or(class);
        Entry { name, class, config }
    }

    fn is_model(&self) -> bool {
        !layers(self.config).is_empty() && !matches!(self.class, "InputLayer" | "Bidirectional")
    }
}

/// The layers of a model; in the oldest files the configuration of a sequential model is the list itself.
fn layers(config: Fields<'_>) -> &[Value] {
    config.0.as_array().map_or_else(|| config.list("layers"), Vec::as_slice)
}

fn is_sequential(class: &str, config: Fields) -> bool {
    class == "Sequential" || config.get("output_layers").is_none()
}

/// Sides of the images that a model reads, without the batch; open ones are `None`.
pub(super) fn input_sides(model: Fields) -> Option<Vec<Option<u32>>> {
    fn ask(layer: Fields, depth: usize) -> Option<Vec<Option<u32>>> {
        let config = layer.inner("config");
        let shape = ["batch_shape", "batch_input_shape", "build_input_shape"]
            .iter()
            .find_map(|name| config.get(name));
        let inner = || {
            let all = layers(config);
            let inputs = ends(config.get("input_layers"));
            let first = match inputs.first() {
                Some(input) => all.iter().find(|layer| Entry::of(layer).name == input.layer),
                None => all.first(),
            };
            ask(Fields(first?), depth + 1)
        };
        let given = |shape: &Value| {
            let sides = shape.as_array()?.get(1..)?;
            Some(sides.iter().map(whole).collect::<Vec<Option<u32>>>())
        };
        if depth > MAX_DEPTH {
            return None;
        }
        let built = || layer.inner("build_config").get("input_shape").and_then(given);
        shape.and_then(given).or_else(inner).or_else(built)
    }
    ask(model, 0)
}

/// How many inputs and outputs a model has.
pub(super) fn ends_of(model: Fields) -> (usize, usize) {
    let config = model.inner("config");
    if is_sequential(model.text("class_name").unwrap_or(""), config) {
        return (1, 1);
    }
    (ends(config.get("input_layers")).len(), ends(config.get("output_layers")).len())
}

impl Builder {
    /// What a model makes of its inputs.
    pub(super) fn model(
        &mut self,
        model: Fields,
        inputs: Vec<Found>,
        place: &Place,
    ) -> Result<Vec<Found>, ExchangeError> {
        let config = model.inner("config");
        if place.names.len() > MAX_DEPTH {
            return Err(self.damaged(format!("models lie more than {MAX_DEPTH} deep in each other")));
        }
        if layers(config).len() > MAX_NODES {
            return Err(self.damaged(format!("a model has more than {MAX_NODES} layers")));
        }
        if is_sequential(model.text("class_name").unwrap_or(""), config) {
            self.sequential(config, inputs, place)
        } else {
            self.functional(config, inputs, place)
        }
    }

    fn sequential(
        &mut self,
        config: Fields,
        mut values: Vec<Found>,
        place: &Place,
    ) -> Result<Vec<Found>, ExchangeError> {
        let mut numbers = HashMap::new();
        for layer in layers(config) {
            let entry = Entry::of(layer);
            if entry.class == "InputLayer" {
                continue;
            }
            let place = self.next_place(place, &entry, &mut numbers);
            let args = values.into_iter().map(|value| value.map(Arg::Tensor)).collect();
            values = self.one(layer, &entry, place, args)?;
        }
        Ok(values)
    }

    fn functional(
        &mut self,
        config: Fields,
        inputs: Vec<Found>,
        place: &Place,
    ) -> Result<Vec<Found>, ExchangeError> {
        let mut numbers = HashMap::new();
        let mut made: HashMap<(&str, usize), Vec<Found>> = HashMap::new();
        for (history, input) in ends(config.get("input_layers")).into_iter().zip(inputs) {
            made.insert((history.layer, history.call), vec![input]);
        }
        let mut open = Vec::new();
        for layer in layers(config) {
            let entry = Entry::of(layer);
            let module = Fields(layer).text("module").unwrap_or("");
            let place = match module.contains(".ops.") {
                // Operations have no weights and no number.
                true => Place { names: vec![entry.name.to_owned()], ..place.clone() },
                false => self.next_place(place, &entry, &mut numbers),
            };
            for (number, call) in calls(Fields(layer)).into_iter().enumerate() {
                open.push(Open { layer, entry, place: place.clone(), number, call });
                if open.len() > MAX_NODES {
                    return Err(self.damaged(format!("a model has more than {MAX_NODES} layers")));
                }
            }
        }
        let first = first_calls(&open, ends(config.get("output_layers")));
        for _ in 0..MAX_ROUNDS {
            let mut later = Vec::new();
            for next in open {
                let Open { layer, entry, place, number, call } = &next;
                match given(call, &made) {
                    Some(args) => {
                        let results = self.one(layer, entry, place.clone(), args)?;
                        let first = if entry.is_model() { first.get(entry.name) } else { None };
                        made.insert((entry.name, *number + first.unwrap_or(&0)), results);
                    }
                    None => later.push(next),
                }
            }
            open = later;
            if open.is_empty() {
                break;
            }
        }
        let mut results = Vec::new();
        for history in ends(config.get("output_layers")) {
            let found =
                made.get(&(history.layer, history.call)).and_then(|values| values.get(history.result));
            let found = found.ok_or_else(|| {
                let reason = "is an output, but its inputs lead round in a circle or are missing";
                self.damaged(format!("layer `{}` {reason}", history.layer))
            })?;
            results.push(found.clone());
        }
        Ok(results)
    }

    /// The place of the next layer of a model, whose layers of one class are numbered.
    fn next_place<'a>(
        &self,
        outer: &Place,
        entry: &Entry<'a>,
        numbers: &mut HashMap<&'a str, usize>,
    ) -> Place {
        let next = numbers.entry(entry.class).or_insert(0);
        let number = *next;
        *next += 1;
        self.weights.place(outer, entry.name, entry.class, number)
    }

    /// One call of a layer or model, whose unknown arguments are `None`.
    fn one(
        &mut self,
        layer: &Value,
        entry: &Entry,
        place: Place,
        args: Vec<Option<Arg>>,
    ) -> Result<Vec<Found>, ExchangeError> {
        if entry.is_model() {
            let inputs = args.into_iter().map(|arg| match arg {
                Some(Arg::Tensor(tensor)) => Some(tensor),
                _ => None,
            });
            return self.model(Fields(layer), inputs.collect(), &place);
        }
        let complete = args.iter().all(Option::is_some);
        let args: Vec<Arg> = args.into_iter().flatten().collect();
        let call = Call { name: entry.name, class: entry.class, config: entry.config, place, args: &args };
        let result = match complete || !is_known(&call) {
            true if complete => self.call(&call),
            true => Err(unknown(entry.class)),
            // Behind a layer that is not supported nothing is known of the value.
            false => return Ok(vec![None]),
        };
        match result {
            Ok(tensor) => Ok(vec![Some(tensor)]),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Unsupported(reason)) => {
                let shapes = args.iter().filter_map(|arg| match arg {
                    Arg::Tensor(tensor) => Some(sides(&tensor.dims)),
                    _ => None,
                });
                let shapes = shapes.collect::<Vec<String>>().join(", ");
                let (node, op) = (entry.name.to_owned(), entry.class.to_owned());
                let part = Unsupported { node, op, shapes, reason };
                if !self.unsupported.contains(&part) {
                    self.unsupported.push(part);
                }
                Ok(vec![None])
            }
        }
    }
}

/// The least number by which each layer's calls are named. In files of Keras 2 those of a model begin with 1 where making it
/// counted as a call.
fn first_calls<'a>(open: &[Open<'a>], outputs: Vec<History<'a>>) -> HashMap<&'a str, usize> {
    let values = open.iter().flat_map(|open| &open.call).filter_map(|argument| match argument {
        Argument::Value(history) => Some(*history),
        _ => None,
    });
    let mut first = HashMap::new();
    for history in values.chain(outputs) {
        let least = first.entry(history.layer).or_insert(1);
        *least = history.call.min(*least);
    }
    first
}

/// The arguments of a call once all its values are made.
fn given<'a>(
    call: &[Argument<'a>],
    made: &HashMap<(&str, usize), Vec<Found>>,
) -> Option<Vec<Option<Arg<'a>>>> {
    let arg = |argument: &Argument<'a>| match argument {
        Argument::Constant(numbers) => Some(Some(Arg::Constant(numbers.clone()))),
        Argument::Other(name, value) => Some(Some(Arg::Other(name, value))),
        Argument::Value(history) => {
            let value = made.get(&(history.layer, history.call))?.get(history.result)?;
            Some(value.clone().map(Arg::Tensor))
        }
    };
    call.iter().map(arg).collect()
}

/// `56x56x64`
fn sides(dims: &[u32]) -> String {
    dims.iter().map(u32::to_string).collect::<Vec<String>>().join("x")
}
