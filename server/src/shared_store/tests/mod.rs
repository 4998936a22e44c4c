//! Publishing and following over real folders, with two services each played by a store and its labels.

mod damage;
mod racing;
mod support;

use std::fs;
use std::time::Duration;

use ocelli_pipeline::store::{Canary, VersionLabels};

use crate::shared_store::local::LocalModels;
use support::*;

#[tokio::test]
async fn what_is_published_is_followed() {
    let shared = Shared::new();
    let writer = shared.service();
    let [a, b, c] = versions();
    for file in [&a, &b, &c] {
        writer.add_file(file);
    }
    let (mut publisher, published) = shared.publisher(&writer);
    publisher.look().await;
    assert_eq!(shared.keys(), Vec::<String>::new(), "a model without a label is not published");
    writer.label(&stable(&a));
    publisher.look().await;
    publisher.look().await;
    assert_eq!(shared.numbers(), [1]);

    let replica = shared.service();
    let (mut follower, status) = shared.follower(&replica);
    follower.look().await;
    assert_eq!(replica.labels(&name()).unwrap(), stable(&a));
    assert_eq!(status.get().models["m"].pointer, Some(1));

    let all = VersionLabels {
        canary: Some(Canary { version: id(&b), share: 10 }),
        shadow: Some(id(&c)),
        ..stable(&a)
    };
    for (number, labels) in [(2, all), (3, stable(&b)), (4, stable(&a))] {
        writer.label(&labels);
        publisher.look().await;
        follower.look().await;
        assert_eq!(replica.labels(&name()).unwrap(), labels);
        assert_eq!(status.get().models["m"].pointer, Some(number));
        assert_eq!(published.get().models["m"].pointer, Some(number));
    }
    assert_eq!(replica.adds(), 3, "each version is fetched once");
    assert_eq!((status.get().error, status.get().refused), (None, 0));
}

#[tokio::test]
async fn a_store_that_is_away_changes_nothing_and_comes_back() {
    let shared = Shared::new();
    let writer = shared.service();
    let [a, b, _] = versions();
    writer.add_file(&a);
    writer.label(&stable(&a));
    let (mut publisher, published) = shared.publisher(&writer);
    publisher.look().await;
    let replica = shared.service();
    let (mut follower, status) = shared.follower(&replica);
    follower.look().await;

    let away = shared.path().with_extension("away");
    fs::rename(shared.path(), &away).unwrap();
    writer.add_file(&b);
    writer.label(&stable(&b));
    for _ in 0..2 {
        publisher.look().await;
        follower.look().await;
    }
    for status in [&status, &published] {
        let error = status.get().error.expect("it is told");
        assert!(error.reason.contains("not there") && error.since > 0, "{error:?}");
    }
    assert_eq!(replica.labels(&name()).unwrap(), stable(&a));
    assert!(!shared.path().exists(), "nothing is made in its place");
    // A replica that is started meanwhile says where it stands.
    let (mut restarted, status_then) = shared.follower(&replica);
    restarted.look().await;
    assert_eq!(status_then.get().models["m"].pointer, Some(1));

    fs::rename(&away, shared.path()).unwrap();
    publisher.look().await;
    follower.look().await;
    assert_eq!(replica.labels(&name()).unwrap(), stable(&b));
    assert_eq!((status.get().error, published.get().error), (None, None));
}

#[tokio::test]
async fn a_deleted_cache_is_filled_again_and_a_damaged_one_mended() {
    let shared = Shared::new();
    let writer = shared.service();
    let [a, ..] = versions();
    writer.add_file(&a);
    writer.label(&stable(&a));
    let (mut publisher, _) = shared.publisher(&writer);
    publisher.look().await;
    let replica = shared.service();
    let (mut follower, _) = shared.follower(&replica);
    follower.look().await;
    let file = replica.file(&name(), &id(&a)).unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let (mut follower, status) = shared.follower(&replica);
    follower.look().await;
    assert_eq!(fs::read(&file).unwrap(), bytes);
    assert_eq!((replica.adds(), status.get().refused), (2, 0));

    let empty = shared.service();
    let (mut follower, _) = shared.follower(&empty);
    follower.look().await;
    assert_eq!(empty.labels(&name()).unwrap(), stable(&a));
}

#[tokio::test]
async fn a_store_that_was_emptied_is_filled_again_with_higher_numbers() {
    let shared = Shared::new();
    let writer = shared.service();
    let [a, ..] = versions();
    writer.add_file(&a);
    writer.label(&stable(&a));
    let (mut publisher, _) = shared.publisher(&writer);
    publisher.look().await;
    let replica = shared.service();
    let (mut follower, status) = shared.follower(&replica);
    follower.look().await;
    fs::remove_dir_all(shared.path().join("models")).unwrap();
    follower.look().await;
    assert_eq!(replica.labels(&name()).unwrap(), stable(&a), "what is gone from the store stays");
    publisher.look().await;
    follower.look().await;
    assert_eq!((shared.numbers(), status.get().models["m"].pointer), (vec![2], Some(2)));

    // A writer that knows nothing of those before it begins at 1: replicas say so, and go on with what they have.
    fs::remove_dir_all(shared.path().join("models")).unwrap();
    let (mut publisher, _) = shared.publisher(&writer);
    publisher.look().await;
    follower.look().await;
    let problem = status.get().models["m"].problem.clone().expect("it is told");
    assert!(problem.reason.contains("emptied or put back"), "{problem:?}");
}

#[tokio::test]
async fn old_pointers_go_and_models_that_nothing_names_after_them() {
    let shared = Shared::new();
    let writer = shared.service();
    let files = versions();
    for file in &files {
        writer.add_file(file);
    }
    let (mut publisher, _) = shared.publisher_keeping(&writer, 2);
    for file in [&files[0], &files[1], &files[2], &files[1]] {
        writer.label(&stable(file));
        publisher.look().await;
        publisher.look().await;
    }
    assert_eq!(shared.numbers(), [3, 4]);
    // Another writer may be about to name a young one.
    assert_eq!(shared.models().len(), 3);
    shared.age(Duration::from_secs(2 * 3600));
    writer.label(&stable(&files[2]));
    publisher.look().await;
    publisher.look().await;
    assert_eq!(shared.numbers(), [4, 5]);
    let mut named = [id(&files[1]), id(&files[2])];
    named.sort();
    assert_eq!(shared.models(), named);
}

#[tokio::test]
async fn a_model_over_the_limit_is_neither_published_nor_fetched() {
    let shared = Shared::new();
    let writer = shared.service();
    let [a, ..] = versions();
    writer.add_file(&a);
    writer.label(&stable(&a));
    let (mut small, status) = shared.publisher_with(&writer, 1000, 20);
    small.look().await;
    let problem = status.get().models["m"].problem.clone().expect("it is told");
    assert!(problem.reason.contains("max_model_bytes is 1000") && shared.keys().is_empty(), "{problem:?}");

    shared.publisher(&writer).0.look().await;
    let replica = shared.service();
    let (mut follower, status) = shared.follower_with(&replica, 1000);
    follower.look().await;
    let problem = status.get().models["m"].problem.clone().expect("it is told");
    assert!(problem.reason.contains("max_model_bytes is 1000") && replica.adds() == 0, "{problem:?}");
}
