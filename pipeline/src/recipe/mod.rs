//! A recipe: everything that decides what a training run does, apart from the data.

mod check;
mod imagenet;
mod labels;
mod networks;
mod quality;
mod rate;
mod settings;
mod text;
mod words;

pub(crate) use check::{MAX_EPOCHS, MAX_FOLDS, MIN_FOLDS};
pub(crate) use imagenet::IMAGENET_NETWORK;
pub use settings::Recipe;
pub(crate) use settings::START_NETWORK;
pub use text::Origins;
pub(crate) use text::{is_free, is_open, with_number};
pub use words::{Balance, Decay, Normalize, Norms, Numbers, OptimizerKind, Quality, Schedule, Start, Task};

#[cfg(test)]
mod tests {
    use super::check::MAX_SEED;
    use super::text::FIELDS;
    use super::*;

    #[test]
    fn round_trip_keeps_every_bit_and_every_field_is_listed() {
        let recipe = Recipe {
            size: Some((48, 32)),
            channels: Some(3),
            hflip: Some(false),
            chunk: Some(16),
            fold: Some((2, 5)),
            add_classes: Some("0f".repeat(32)),
            start: Some(Start::Fresh),
            task: Some(Task::MultiLabel),
            precision: Numbers::Bf16,
            lr: Some(0.1 + 0.2),
            weight_decay: 5e-7,
            seed: MAX_SEED,
            ..Recipe::default()
        };
        let origins = Origins::from([("lr".to_owned(), "a\nfile.toml".to_owned())]);
        let text = recipe.to_toml(&origins);
        assert_eq!(Recipe::from_toml(&text).unwrap(), recipe);
        assert_eq!(text.lines().count(), FIELDS.len());
        let table = toml::Table::try_from(&recipe).unwrap();
        assert_eq!(table.len(), FIELDS.len(), "FIELDS and Recipe differ");
        assert!(text.contains("# a file.toml; highest learning rate"), "{text}");
        let auto = Recipe { lr: None, ..recipe };
        let text = auto.to_toml(&origins);
        assert!(text.contains("lr = \"auto\""), "{text}");
        assert_eq!(Recipe::from_toml(&text).unwrap(), auto);
        assert_eq!(Recipe::named_in("epochs = 3\nlr = 0.5").unwrap(), ["epochs", "lr"]);
    }

    #[test]
    fn defaults_are_valid_and_fill_gaps() {
        Recipe::default().validate().unwrap();
        assert_eq!(Recipe::from_toml("").unwrap(), Recipe::default());
        assert_eq!(Recipe::from_toml("epochs = 3").unwrap(), Recipe { epochs: 3, ..Recipe::default() });
    }

    #[test]
    fn older_recipes_are_read() {
        let recipe = |text| Recipe::from_toml(text).unwrap();
        assert_eq!(recipe("class_weights = \"balanced\"").balance, Balance::Weights);
        assert_eq!(recipe("class_weights = \"none\"").balance, Balance::None);
        assert_eq!(recipe("lr = 1").lr, Some(1.0));
    }

    #[test]
    fn bad_recipes_are_one_line_errors() {
        for text in [
            "lr = \"fast\"",
            "epoch = 3",
            "epochs = \"x\"",
            "epochs = -1",
            "[a]",
            "lr",
            "schedule = \"steps\"",
            "size = [1]",
        ] {
            let message = Recipe::from_toml(text).unwrap_err().to_string();
            assert!(message.starts_with("recipe") && !message.contains('\n'), "{text}: {message}");
        }
        let message = Recipe::from_toml("lr = 0.1\nepoch = 3").unwrap_err().to_string();
        assert!(message.starts_with("recipe line 2: unknown field `epoch`"), "{message}");
    }

    #[test]
    fn each_setting_is_checked() {
        type Change = fn(&mut Recipe);
        let bad: [(&str, Change); 31] = [
            ("model", |r| r.model = "resnet".to_owned()),
            ("size", |r| r.size = Some((0, 8))),
            ("first_size", |r| (r.size, r.first_size) = (Some((64, 64)), 65)),
            ("first_size", |r| r.first_size = 1),
            ("channels", |r| r.channels = Some(33)),
            ("epochs", |r| r.epochs = 0),
            ("batch", |r| r.batch = 0),
            ("threads", |r| r.threads = 5000),
            ("chunk", |r| r.chunk = Some(0)),
            ("fold", |r| r.fold = Some((0, 5))),
            ("fold", |r| r.fold = Some((6, 5))),
            ("fold", |r| r.fold = Some((1, 1))),
            ("seed", |r| r.seed = u64::MAX),
            ("lr", |r| r.lr = Some(0.0)),
            ("lr", |r| r.lr = Some(f32::NAN)),
            ("lr", |r| r.lr = Some(f32::INFINITY)),
            ("body_rate", |r| r.body_rate = 1.5),
            ("body_rate", |r| r.body_rate = f32::NAN),
            ("ema", |r| r.ema = 1.0),
            ("head_epochs", |r| r.head_epochs = 2000),
            ("momentum", |r| r.momentum = 1.0),
            ("label_smoothing", |r| r.label_smoothing = -0.1),
            ("warmup", |r| r.warmup = f32::NAN),
            ("mixup", |r| r.mixup = -0.2),
            ("mixup", |r| r.mixup = 1e-9),
            ("cutmix", |r| r.cutmix = f32::NAN),
            ("cutmix", |r| r.cutmix = 1e3),
            ("max_bad", |r| r.max_bad = 1.5),
            ("val_split", |r| (r.val_split, r.test_split) = (0.5, 0.5)),
            ("weight_decay", |r| r.weight_decay = -1.0),
            ("clip_norm", |r| r.clip_norm = f32::INFINITY),
        ];
        for (field, change) in bad {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            let message = recipe.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("{field}: ")), "{field}: {message}");
        }
    }
}
