//! Model files, from which a stranger's network comes.

use ocelli_engine::model_file::ModelFile;
use ocelli_engine::{Exec, Inference, Isa, Learning, Mode, Plan};
use sha2::{Digest, Sha256};

use crate::says_something;

/// Where the frame states the length of the file.
const LENGTH: std::ops::Range<usize> = 24..32;
const HASH_BYTES: usize = 32;

/// Largest plan that is run, in bytes and in multiply-adds.
const MAX_MEMORY: usize = 16 << 20;
const MAX_WORK: usize = 1 << 22;

pub(crate) fn check(data: &[u8]) {
    read(data);
    // With its length and hash made right, damage goes further.
    if let Some(body) = data.len().checked_sub(HASH_BYTES).filter(|&body| body >= LENGTH.end) {
        let mut repaired = data.to_vec();
        repaired[LENGTH].copy_from_slice(&(data.len() as u64).to_le_bytes());
        let hash = Sha256::digest(&repaired[..body]);
        repaired[body..].copy_from_slice(&hash);
        read(&repaired);
    }
}

fn read(bytes: &[u8]) {
    let file = match ModelFile::from_bytes(bytes) {
        Ok(file) => file,
        Err(error) => return says_something(&error),
    };
    let again = file.to_bytes().expect("what was read can be written");
    let read = ModelFile::from_bytes(&again).expect("what was written can be read");
    assert_eq!(
        read.to_bytes().expect("it was written before"),
        again,
        "a file changes when it is written again"
    );
    let graph = file.model.graph();
    let exec = Exec::with_isa(Isa::available()[0], 1).expect("one thread");
    for mode in [Mode::Infer, Mode::Train(Learning::default())] {
        if let Err(error) = Plan::measure(graph, 2, mode, &exec) {
            says_something(&error);
        }
    }
    let small =
        Plan::measure(graph, 1, Mode::Infer, &exec).is_ok_and(|(memory, _)| memory.total() <= MAX_MEMORY);
    if !small {
        return;
    }
    let Ok(plan) = Plan::compile(graph, 1, Mode::Infer, &exec) else { return };
    for quantization in [None, file.quantization.as_ref()] {
        if plan.macs() <= MAX_WORK
            && let Ok(mut inference) = Inference::quantized(&file.model, quantization, &[], 1, &exec)
        {
            let mut logits = vec![0.0; inference.classes()];
            inference
                .run(&vec![0.5; inference.input_len()], 1, &mut logits)
                .expect("an image of the stated shape");
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let files = [
        include_bytes!("../../../engine/tests/golden/tiny.ocelli").as_slice(),
        include_bytes!("../../../engine/tests/golden/tiny-training.ocelli"),
        include_bytes!("../../../engine/tests/golden/tiny-probes.ocelli"),
        include_bytes!("../../../engine/tests/golden/tiny-int8.ocelli"),
    ];
    files.map(<[u8]>::to_vec).into()
}
