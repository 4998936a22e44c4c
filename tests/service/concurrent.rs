//! Many clients at the same time, some of whom disconnect: each gets the answer to its own image, bit for bit.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Service, model, of_form, offline, photos, until};
use crate::http_client::{form, head, request};
use crate::shapes::{CLASSES, Rng};
use crate::support::Sandbox;

/// Sends some of a request, or all of it, and leaves without an answer.
fn leave(addr: &str, image: &[u8], rng: &mut Rng) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let request =
        [head(addr, "POST /predict", &[("content-type", "image/png")], image.len()).as_bytes(), image]
            .concat();
    let sent =
        if rng.uniform() < 0.5 { request.len() } else { (rng.next_u64() % request.len() as u64) as usize };
    stream.write_all(&request[..sent]).unwrap();
    if rng.uniform() < 0.3 {
        let _ = stream.shutdown(Shutdown::Write);
    }
}

#[test]
fn every_client_gets_its_own_answer() {
    let sandbox = Sandbox::new();
    let images: Vec<Vec<u8>> =
        photos(1, of_form(167, 3334), &CLASSES).into_iter().map(|(_, bytes)| bytes).collect();
    let expected = offline(&sandbox, &images);
    assert_eq!(expected.len(), images.len());
    let service = Service::start(&sandbox, &model());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in 0..of_form(16, 64) {
            let (service, images, expected, next) = (&service, &images, &expected, &next);
            scope.spawn(move || {
                let mut rng = Rng(client);
                loop {
                    // One image, or two that only their order tells apart.
                    let count = 1 + usize::from(client % 4 == 0);
                    let at = next.fetch_add(count, Ordering::Relaxed);
                    let mine = at..(at + count).min(images.len());
                    if mine.is_empty() {
                        return;
                    }
                    if rng.uniform() < 0.2 {
                        leave(&service.addr, &images[at], &mut rng);
                    }
                    let bodies: Vec<&[u8]> = images[mine.clone()].iter().map(Vec::as_slice).collect();
                    let (kind, body) = form(&bodies);
                    let answer = request(&service.addr, "POST /predict?top_k=3", &kind, &body);
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let answer = answer.json();
                    let predictions = answer["predictions"].as_array().unwrap();
                    assert_eq!(predictions.len(), mine.len());
                    for (prediction, expected) in predictions.iter().zip(&expected[mine]) {
                        assert_eq!(prediction["top"], expected["top"]);
                    }
                }
            });
        }
    });
    // Clients that disconnected hold nothing any more.
    until("empty queues", || (service.json("/status")["queue"]["length"] == 0).then_some(()));
    until("the end of connections", || (service.json("/status")["connections"] == 1).then_some(()));
    assert_eq!(service.stop("TERM"), Some(0));
}
