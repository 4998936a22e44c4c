//! Runs whose images grow.

use super::preparing::{small_network, stopped_and_whole};
use super::*;
use ocelli_engine::Shape;

#[test]
fn a_run_on_growing_images_resumes_to_the_same_bits_and_is_of_the_full_size() {
    let dir = tempfile::tempdir().unwrap();
    let network = small_network(dir.path());
    let trained = |first_size| {
        let recipe = Recipe { first_size, mixup: 0.4, ..recipe() };
        let options = options(&dir, idx_data(dir.path()), recipe).with_network(&network).unwrap();
        stopped_and_whole(&options)
    };
    let (resumed, whole) = trained(8);
    assert_eq!(resumed, whole);
    assert_ne!(whole, trained(0).1);
    let model = open_model(&dir.path().join("runs/bars-001")).unwrap().model;
    assert_eq!(model.graph().input, Shape::new(12, 12, 1));
}

#[test]
fn a_network_that_cannot_take_other_sizes_is_refused_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Recipe { size: Some((24, 24)), first_size: 12, ..recipe() };
    let error = train(&options(&dir, idx_data(dir.path()), recipe), &NEVER, &mut |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("first_size: keras-cnn cannot be trained on"), "{error}");
    assert!(!dir.path().join("runs").exists());
}
