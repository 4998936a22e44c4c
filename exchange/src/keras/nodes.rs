//! How the configuration says which layer reads which: lists in lists in Keras 2, objects in Keras 3.

use serde_json::Value;

use super::fields::{Fields, numbers, whole};

/// A value by the layer that makes it, the number of that layer's call, and the number among the call's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct History<'a> {
    pub(super) layer: &'a str,
    pub(super) call: usize,
    pub(super) result: usize,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub(super) enum Argument<'a> {
    /// A value of the network.
    Value(History<'a>),
    /// Numbers.
    Constant(Vec<f64>),
    /// Something else, by its name if it has one.
    Other(&'a str, &'a Value),
}

/// The calls of a layer.
pub(super) fn calls<'a>(layer: Fields<'a>) -> Vec<Vec<Argument<'a>>> {
    layer.list("inbound_nodes").iter().map(arguments).collect()
}

/// The arguments of one call.
fn arguments(node: &Value) -> Vec<Argument<'_>> {
    let mut found = Vec::new();
    match node {
        Value::Object(_) => {
            let fields = Fields(node);
            fields.list("args").iter().for_each(|value| collect("", value, &mut found));
            keywords(fields.get("kwargs"), &mut found);
        }
        Value::Array(list) if list.first().is_some_and(Value::is_string) => old_argument(node, &mut found),
        Value::Array(list) => list.iter().for_each(|value| old_argument(value, &mut found)),
        _ => {}
    }
    found
}

fn keywords<'a>(value: Option<&'a Value>, found: &mut Vec<Argument<'a>>) {
    for (name, value) in value.and_then(Value::as_object).into_iter().flatten() {
        match value {
            Value::Null | Value::Bool(_) => {}
            // Names of the second operand; other numbers are settings.
            _ if matches!(name.as_str(), "y" | "x1" | "x2" | "other" | "value" | "values" | "b") => {
                collect(name, value, found);
            }
            _ if history(value).is_some() || tensor(value).is_some() => collect(name, value, found),
            _ => found.push(Argument::Other(name, value)),
        }
    }
}

/// `[layer, call, result, keywords]`, as Keras 2 has it.
fn old_argument<'a>(value: &'a Value, found: &mut Vec<Argument<'a>>) {
    let Some(list) = value.as_array() else { return };
    if list.first().and_then(Value::as_str) == Some("_CONSTANT_VALUE") {
        found.extend(list.get(2).and_then(numbers).map(Argument::Constant));
    } else {
        found.extend(history(value).map(Argument::Value));
    }
    keywords(list.get(3), found);
}

fn collect<'a>(name: &'a str, value: &'a Value, found: &mut Vec<Argument<'a>>) {
    if let Some(history) = tensor(value).or_else(|| history(value)) {
        found.push(Argument::Value(history));
    } else if let Some(numbers) = numbers(value).filter(|numbers| !numbers.is_empty()) {
        found.push(Argument::Constant(numbers));
    } else if let Some(list) = value.as_array().filter(|list| holds_tensor(list)) {
        list.iter().for_each(|value| collect(name, value, found));
    } else if !value.is_null() {
        found.push(Argument::Other(name, value));
    }
}

fn holds_tensor(list: &[Value]) -> bool {
    list.iter().any(|value| tensor(value).is_some() || history(value).is_some())
}

/// A value as Keras 3 has it.
fn tensor(value: &Value) -> Option<History<'_>> {
    let fields = Fields(value);
    (fields.text("class_name")? == "__keras_tensor__").then_some(())?;
    history(fields.get("config")?.get("keras_history")?)
}

/// `[layer, call, result]`.
fn history(value: &Value) -> Option<History<'_>> {
    match value.as_array()?.as_slice() {
        [layer, call, result, ..] => {
            let (call, result) = (whole(call)? as usize, whole(result)? as usize);
            Some(History { layer: layer.as_str()?, call, result })
        }
        _ => None,
    }
}

/// The values of a model's `input_layers` or `output_layers`: one, several, or several by names.
pub(super) fn ends(value: Option<&Value>) -> Vec<History<'_>> {
    let Some(value) = value else { return Vec::new() };
    if let Some(one) = history(value) {
        return vec![one];
    }
    match value {
        Value::Array(list) => list.iter().filter_map(history).collect(),
        Value::Object(named) => named.values().filter_map(history).collect(),
        _ => Vec::new(),
    }
}
