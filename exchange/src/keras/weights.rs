//! Where a layer's weights are in a file, and in what order.

use std::collections::HashMap;

use super::hdf5::Hdf5;

/// Which layer of which model.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// Names of the models around it and its own, outermost first, without the whole model's.
    pub(super) names: Vec<String>,
    /// Its group in the weights of a `.keras` file.
    pub(super) group: String,
}

/// The weights of a file.
pub(super) enum Weights {
    /// `.h5`: `model_weights/<layer>/…/<variable>`, by names.
    Named {
        /// The file.
        file: Hdf5,
        /// Arrays below each outermost layer that was asked for.
        seen: HashMap<String, Vec<String>>,
    },
    /// The weights of a `.keras` file: `layers/<class>_<number>/vars/<index>`, by order.
    Numbered {
        /// The file.
        file: Hdf5,
        /// What groups of layers are called: `layers`, and in files of Keras 2.12 `_layer_checkpoint_dependencies`.
        container: &'static str,
    },
}

/// A variable of a layer: the names that it has had, and its shape.
pub(super) type Variable<'a> = (&'a [&'a str], Vec<usize>);

impl Weights {
    /// The weights of a `.h5` file.
    pub(super) fn named(file: Hdf5) -> Self {
        Weights::Named { file, seen: HashMap::new() }
    }

    /// The weights of a `.keras` file.
    pub(super) fn numbered(file: Hdf5) -> Self {
        let old = "_layer_checkpoint_dependencies";
        let container = if !file.has_group("layers") && file.has_group(old) { old } else { "layers" };
        Weights::Numbered { file, container }
    }

    /// The place of a layer in a model at `outer`. `number` tells apart the layers of one class in that model.
    pub(super) fn place(&self, outer: &Place, name: &str, class: &str, number: usize) -> Place {
        let mut place = outer.clone();
        place.names.push(name.to_owned());
        if let Weights::Numbered { container, .. } = self {
            let slash = if place.group.is_empty() { "" } else { "/" };
            place.group = format!("{}{slash}{container}/{}", place.group, group_name(class, number));
        }
        place
    }

    /// The variables of a layer, which are in this order where they are numbered.
    pub(super) fn read(&mut self, place: &Place, wanted: &[Variable]) -> Result<Vec<Vec<f32>>, String> {
        match self {
            Weights::Numbered { file, .. } => {
                let read = |(index, (_, shape)): (usize, &Variable)| {
                    file.floats(&format!("{}/vars/{index}", place.group), shape)
                };
                wanted.iter().enumerate().map(read).collect()
            }
            Weights::Named { file, seen } => {
                let top = &place.names[0];
                let group = format!("model_weights/{top}");
                if !seen.contains_key(top) {
                    let arrays = file.arrays(&group)?;
                    seen.insert(top.clone(), arrays);
                }
                let arrays = &seen[top];
                let leaf = if place.names.len() > 1 { place.names.last() } else { None };
                let read = |(names, shape): &Variable| {
                    let path = arrays.iter().find(|path| is_variable(path, names, leaf));
                    let path = path.ok_or_else(|| {
                        let name = place.names.last().map_or("", String::as_str);
                        format!("no `{}` of layer `{name}` in `{group}`", names[0])
                    })?;
                    file.floats(&format!("{group}/{path}"), shape)
                };
                wanted.iter().map(read).collect()
            }
        }
    }
}

/// Whether `a/layer/kernel:0` is a variable of these names, of the layer if that matters.
fn is_variable(path: &str, names: &[&str], layer: Option<&String>) -> bool {
    let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
    let base = last.split(':').next().unwrap_or(last);
    let right_layer = layer.is_none_or(|layer| {
        let before = folder.strip_suffix(layer.as_str());
        before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
    });
    names.contains(&base) && right_layer
}

/// The group of a layer in the weights of a `.keras` file: `conv2d`, `conv2d_1` and so on.
pub(super) fn group_name(class: &str, number: usize) -> String {
    let name = snake_case(class);
    if number == 0 { name } else { format!("{name}_{number}") }
}

/// `GlobalAveragePooling2D` as `global_average_pooling2d`: an underscore before a capital and small letters, and between a
/// small letter and a capital, as Keras does it.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut snake = String::with_capacity(class.len() + 4);
    for (index, &letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| letters[before]);
        let small_after = letters.get(index + 1).is_some_and(char::is_ascii_lowercase);
        let word = letter.is_ascii_uppercase()
            && before.is_some_and(|before| before.is_ascii_lowercase() || (small_after && before != '_'));
        if word {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_called_as_keras_calls_them() {
        for (class, name) in [
            ("Conv2D", "conv2d"),
            ("DepthwiseConv2D", "depthwise_conv2d"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("ReLU", "re_lu"),
            ("PReLU", "p_re_lu"),
            ("InputLayer", "input_layer"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("Functional", "functional"),
        ] {
            assert_eq!(group_name(class, 0), name);
            assert_eq!(group_name(class, 3), format!("{name}_3"));
        }
    }

    #[test]
    fn variables_are_told_by_their_last_name_and_their_layer() {
        let layer = "block".to_owned();
        assert!(is_variable("block/kernel:0", &["kernel"], Some(&layer)));
        assert!(is_variable("model/block/kernel", &["depthwise_kernel", "kernel"], Some(&layer)));
        assert!(!is_variable("big_block/kernel:0", &["kernel"], Some(&layer)));
        assert!(!is_variable("block/bias:0", &["kernel"], Some(&layer)));
        assert!(is_variable("dense_3/dense_3/kernel:0", &["kernel"], None));
        assert!(is_variable("kernel:0", &["kernel"], None));
    }
}
