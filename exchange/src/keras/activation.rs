//! Activations by their names in Keras.

use ocelli_engine::Activation;
use serde_json::Value;

use super::draft::Stop;
use super::fields::Fields;

/// An activation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Function {
    /// `x`
    Linear,
    /// One that the engine has.
    Engine(Activation),
    /// `min(max(x / 5 + 1 / 2, 0), 1)`
    HardSigmoidOfKeras2,
    /// Over channels.
    Softmax,
}

impl Function {
    /// The activation of a setting: missing, a name, a function with a name, or a layer.
    pub(super) fn of_setting(setting: Option<&Value>, keras: u32) -> Result<Function, Stop> {
        let Some(value) = setting else { return Ok(Function::Linear) };
        if let Some(name) = value.as_str() {
            return Function::of_name(name, keras);
        }
        let fields = Fields(value);
        let class = fields.text("class_name").unwrap_or("");
        if let Some(name) = fields.text("config") {
            return Function::of_name(name, keras);
        }
        let config = fields.inner("config");
        let found = Function::of_layer(class, config, keras)?;
        found.map_or_else(|| Function::of_name(class, keras), Ok)
    }

    /// The activation of a name.
    pub(super) fn of_name(name: &str, keras: u32) -> Result<Function, Stop> {
        let own = name.rsplit(['>', '.']).next().unwrap_or(name).to_ascii_lowercase().replace('_', "");
        Ok(Function::Engine(match own.as_str() {
            "linear" | "identity" => return Ok(Function::Linear),
            "softmax" => return Ok(Function::Softmax),
            "hardsigmoid" if keras < 3 => return Ok(Function::HardSigmoidOfKeras2),
            "hardsigmoid" => Activation::HardSigmoid,
            "hardswish" | "hardsilu" => Activation::HardSwish,
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "sigmoid" => Activation::Sigmoid,
            "swish" | "silu" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "tanh" => Activation::Tanh,
            "leakyrelu" => Activation::LeakyRelu { slope: 0.2 },
            _ => return Err(Stop::Unsupported(format!("the activation `{name}`"))),
        }))
    }

    /// The activation of a layer that is nothing else, or of an operation; `None` for other classes.
    pub(super) fn of_layer(class: &str, config: Fields, keras: u32) -> Result<Option<Function>, Stop> {
        Ok(Some(match class {
            "ReLU" | "Relu" => {
                let number = |name: &str, default: f64| config.number(name).unwrap_or(default);
                relu(number("negative_slope", 0.0), config.number("max_value"), number("threshold", 0.0))?
            }
            "LeakyReLU" => {
                let slope = config.number("negative_slope").or(config.number("alpha")).unwrap_or(0.3);
                relu(slope, None, 0.0)?
            }
            "LeakyRelu" => relu(config.number("negative_slope").unwrap_or(0.2), None, 0.0)?,
            "Softmax" => Function::Softmax,
            "Gelu" if config.flag("approximate", true) => {
                return Err(Stop::Unsupported("the approximation of gelu by tanh".to_owned()));
            }
            "Relu6" | "Sigmoid" | "Silu" | "HardSigmoid" | "HardSilu" | "Tanh" | "Gelu" => {
                Function::of_name(class, keras)?
            }
            _ => return Ok(None),
        }))
    }
}

/// `max(x, 0)` with a slope below 0 and a largest value.
fn relu(slope: f64, max: Option<f64>, threshold: f64) -> Result<Function, Stop> {
    let unsupported = |reason: &str| Err(Stop::Unsupported(reason.to_owned()));
    if threshold != 0.0 {
        return unsupported("a ReLU with a threshold other than 0");
    }
    Ok(Function::Engine(match max {
        None if slope == 0.0 => Activation::Relu,
        None => Activation::LeakyRelu { slope: slope as f32 },
        Some(_) if slope != 0.0 => return unsupported("a leaky ReLU with a largest value"),
        Some(6.0) => Activation::Relu6,
        Some(max) => Activation::Clip { min: 0.0, max: max as f32 },
    }))
}
