//! Files of Keras, `.h5` and `.keras`.

use ocelli_exchange::{ImportOptions, import};

/// Largest model whose parameters are looked at.
const MAX_PARAMETERS: usize = 1 << 22;

pub(crate) fn check(data: &[u8]) {
    for size in [None, Some((16, 16))] {
        match import(data, &ImportOptions { size, ..ImportOptions::default() }) {
            Ok(read) => {
                let shapes = read.model.graph().shapes().expect("an imported network has shapes");
                assert!(shapes.iter().all(|shape| !shape.is_empty()));
                assert!(
                    read.model.params().len() <= data.len().max(MAX_PARAMETERS),
                    "more weights than bytes"
                );
                if let Some((mean, std)) = read.input.mean_std {
                    assert_eq!((mean.len(), std.len()), (shapes[0].c as usize, shapes[0].c as usize));
                }
            }
            // What is not supported has a line for each layer.
            Err(error) => assert!(!error.to_string().is_empty(), "an error that says nothing"),
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let files: [&[u8]; 6] = [
        include_bytes!("../../../exchange/tests/keras/binary_k2.h5"),
        include_bytes!("../../../exchange/tests/keras/first_steps_k3.h5"),
        include_bytes!("../../../exchange/tests/keras/weights_only_k2.h5"),
        include_bytes!("../../../exchange/tests/keras/binary_k3.keras"),
        include_bytes!("../../../exchange/tests/keras/everything_k3.keras"),
        include_bytes!("../../../exchange/tests/keras/unsupported_k3.keras"),
    ];
    files.map(<[u8]>::to_vec).to_vec()
}
