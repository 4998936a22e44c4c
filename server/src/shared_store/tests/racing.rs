//! Two writers over one store.

use crate::shared_store::local::LocalModels;

use super::support::*;

#[tokio::test]
async fn the_writer_that_was_started_last_goes_on() {
    let shared = Shared::new();
    let [a, b, c] = versions();
    let (first, second) = (shared.service(), shared.service());
    first.add_file(&a);
    first.add_file(&c);
    second.add_file(&b);
    first.label(&stable(&a));
    second.label(&stable(&b));
    let (mut one, of_one) = shared.publisher(&first);
    let (mut two, of_two) = shared.publisher(&second);
    one.look().await;
    two.look().await;
    // The first one has something new, and is told that it is no longer the writer.
    first.label(&stable(&c));
    for _ in 0..3 {
        one.look().await;
        two.look().await;
    }
    assert_eq!(shared.numbers(), [1, 2]);
    let problem = of_one.get().models["m"].problem.clone().expect("it is told");
    assert!(problem.reason.contains("another writer on here published pointer 2"), "{problem:?}");
    assert_eq!((of_two.get().models["m"].pointer, of_two.get().models["m"].problem.clone()), (Some(2), None));
    let replica = shared.service();
    shared.follower(&replica).0.look().await;
    assert_eq!(replica.labels(&name()).unwrap(), stable(&b));
    // Started anew it takes over, and the other one steps back.
    let (mut one, of_one) = shared.publisher(&first);
    one.look().await;
    two.look().await;
    assert_eq!((of_one.get().models["m"].pointer, shared.numbers()), (Some(3), vec![1, 2, 3]));
    assert!(of_two.get().models["m"].problem.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_race_leave_a_pointer_of_one_of_them_and_agree_who_goes_on() {
    let files = versions();
    for _ in 0..8 {
        let shared = Shared::new();
        let services = [shared.service(), shared.service(), shared.service()];
        let mut tasks = Vec::new();
        for (service, file) in services.iter().zip(&files) {
            service.add_file(file);
            service.label(&stable(file));
            let (mut publisher, status) = shared.publisher(service);
            tasks.push(tokio::spawn(async move {
                for _ in 0..6 {
                    publisher.look().await;
                }
                (publisher, status)
            }));
        }
        let mut writers = Vec::new();
        for task in tasks {
            let (mut publisher, status) = task.await.unwrap();
            // One that was done before the others began has not seen them.
            publisher.look().await;
            writers.push((publisher, status));
        }
        let mut problems = Vec::new();
        for (mut publisher, status) in writers {
            publisher.look().await;
            problems.push(status.get().models["m"].problem.is_some());
        }
        // Whoever came first at the end goes on; replicas take the newest pointer, which is whole.
        assert_eq!(problems.iter().filter(|problem| !**problem).count(), 1, "{problems:?}");
        let winner = problems.iter().position(|problem| !*problem).unwrap();
        let replica = shared.service();
        let (mut follower, status) = shared.follower(&replica);
        follower.look().await;
        assert_eq!(replica.labels(&name()).unwrap(), stable(&files[winner]));
        assert_eq!(status.get().models["m"].pointer, shared.numbers().last().copied());
        assert_eq!(status.get().refused, 0);
    }
}
