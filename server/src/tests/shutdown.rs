use std::net::TcpStream;
use std::time::Duration;

use super::support::*;
use crate::{Config, ServerError};

fn gated(config: Config) -> (Service, Gate) {
    let gate = Gate::default();
    let held = gate.clone();
    let service = Service::wrapped(config, |mut model| {
        Box::new(move |images, top_k| {
            held.pass();
            model(images, top_k)
        })
    });
    (service, gate)
}

#[test]
fn requests_in_flight_finish_and_idle_connections_close() {
    let (mut service, gate) = gated(patient());
    let mut idle = service.connect();
    idle.write(&get("/health/ready"));
    assert_eq!(idle.read().status, 200);
    // This one has sent half its body.
    let request = post("/predict", "", &bmp(5));
    let mut halfway = service.connect();
    halfway.write(&request[..200]);
    wait_until("half a body", || {
        service.server.backend.body_memory.available_permits() < service.server.backend.config.body_memory
    });
    let mut in_flight: Vec<Client> = (0..5)
        .map(|seed| {
            let mut client = service.connect();
            client.write(&post("/predict", "", &bmp(seed)));
            client
        })
        .collect();
    service.wait_for_load(5);
    service.begin_shutdown();
    assert!(idle.is_closed_by_service());
    wait_until("no more connections", || TcpStream::connect(service.address).is_err());
    halfway.write(&request[200..]);
    service.wait_for_load(6);
    gate.open();
    in_flight.push(halfway);
    let mut model = predictor();
    for (seed, client) in in_flight.iter_mut().enumerate() {
        let answer = client.read();
        assert_same(&answer.json()["predictions"][0], &offline(&mut model, &bmp(seed as u64), 5));
        assert!(client.is_closed_by_service());
    }
    service.wait().expect("a clean end");
}

#[test]
fn a_request_that_never_ends_is_cut_off_and_reported() {
    let (mut service, gate) = gated(Config { drain_timeout: Duration::from_millis(100), ..patient() });
    let mut stuck = service.connect();
    stuck.write(&post("/predict", "", &bmp(1)));
    service.wait_for_load(1);
    service.begin_shutdown();
    let error = service.wait().expect_err("not a clean end");
    assert!(matches!(error, ServerError::Unfinished { connections: 1, .. }), "{error}");
    assert!(stuck.try_read().is_none());
    gate.open();
}
