//! A service on a port of its own, a client of a hundred lines, and images.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

pub(super) use ocelli_common::random::SplitMix64 as Rng;
use ocelli_pipeline::{
    Compute, Data, ModelFile, Prediction, Predictor, Recipe, TrainOptions, open_model, train,
};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::models::catalog::Catalog;
use crate::models::pass::Predict;
use crate::models::resources::Resources;
use crate::models::serving::{ModelInfo, Serving};
use crate::snapshot::Snapshot;
use crate::{Access, Config, Server, ServerError, run};

/// Longer than anything here takes, on a machine with much else to do: reaching it means that something hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Limits in time that no test runs into, unless it sets one of its own.
pub(super) fn patient() -> Config {
    Config {
        header_timeout: 2 * PATIENCE,
        body_timeout: 2 * PATIENCE,
        keep_alive: 2 * PATIENCE,
        write_timeout: 2 * PATIENCE,
        drain_timeout: 2 * PATIENCE,
        ..Config::default()
    }
}

/// Names that a page or a log must not take for its own syntax.
const CLASSES: [&str; 3] = ["<b>bold", "back\\slash", "quote\"d"];

/// A model of 12 by 12 pixels, trained once for all tests on a handful of noise.
pub(super) fn predictor() -> Predictor {
    Predictor::from_model_file(model_file(), Compute::on(1)).expect("a predictor")
}

/// The file of that model.
pub(crate) fn model_file() -> ModelFile {
    static MODEL: OnceLock<ModelFile> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let images = folder.path().join("images");
        for (class, name) in CLASSES.iter().enumerate() {
            std::fs::create_dir_all(images.join(name)).unwrap();
            for number in 0..8 {
                let seed = (1000 * (class + 1) + number) as u64;
                std::fs::write(images.join(name).join(format!("{number}.bmp")), bmp(seed)).unwrap();
            }
        }
        let recipe = Recipe { size: Some((12, 12)), epochs: 1, batch: 8, threads: 1, ..Recipe::default() };
        let options = TrainOptions { recipe, ..TrainOptions::new(Data::Path(images), folder.path()) };
        let outcome = train(&options, &AtomicBool::new(false), &mut |_| {}).expect("a training run");
        open_model(&outcome.best).expect("its best weights")
    });
    model.clone()
}

/// What the model says about an image without any service around it.
pub(super) fn offline(predictor: &mut Predictor, image: &[u8], top_k: usize) -> Prediction {
    let prepared = predictor.decoder().prepare(image).expect("a readable image");
    predictor.predict_prepared(&[prepared], top_k).expect("a prediction").remove(0)
}

/// A 24-bit BMP of 8 by 8 pixels that differs with the seed.
pub(crate) fn bmp(seed: u64) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    for word in [54 + 192, 0, 54, 40, 8, 8, 24 << 16 | 1, 0, 192, 2835, 2835, 0, 0u32] {
        bytes.extend(word.to_le_bytes());
    }
    let mut rng = Rng(seed);
    bytes.extend((0..192).map(|_| rng.next_u64() as u8));
    bytes
}

pub(super) struct Service {
    pub(super) address: SocketAddr,
    pub(super) server: Arc<Server>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<(), ServerError>>>,
}

impl Service {
    pub(super) fn start(config: Config) -> Service {
        Service::serve(Server::new(predictor(), config, Access::default()).expect("a server"))
    }

    /// The model behind something of the test's own, which may take its time: it never runs inline.
    pub(super) fn wrapped(config: Config, wrap: impl FnOnce(Predict) -> Predict) -> Service {
        Service::wrapped_inline(config, 0, wrap)
    }

    /// As [`Service::wrapped`], for a model that may run up to `inline` images on a thread that serves connections.
    pub(super) fn wrapped_inline(
        config: Config,
        inline: usize,
        wrap: impl FnOnce(Predict) -> Predict,
    ) -> Service {
        let mut predictor = predictor();
        let (decoder, info) = (predictor.decoder(), ModelInfo::of(&predictor, "wrapped"));
        let predict: Predict =
            Box::new(move |images, ask| predictor.answer(images, ask).map_err(|e| e.to_string()));
        let metrics = Metrics::default();
        let serving = Serving::with_predict(decoder, info, (wrap(predict), inline), &config, &metrics)
            .expect("a thread");
        let config = Arc::new(config);
        let resources = Resources::new(Compute::on(1), &config, metrics.clone()).expect("a thread");
        let models = Catalog::only(serving, &config, resources).expect("a model");
        let server = Server::assemble(models, None, config, Access::default(), metrics);
        Service::serve(server.expect("a server"))
    }

    pub(super) fn serve(server: Server) -> Service {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(server);
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = server.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                run(listener, shared, async move {
                    drop(stopped.await);
                    Duration::ZERO
                })
                .await
            })
        });
        Service { address, server, stop: Some(stop), thread: Some(thread) }
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(super) fn send(&self, request: &[u8]) -> Answer {
        let mut client = self.connect();
        client.write(request);
        client.read()
    }

    pub(super) fn begin_shutdown(&mut self) {
        drop(self.stop.take());
    }

    pub(super) fn wait(&mut self) -> Result<(), ServerError> {
        self.thread.take().expect("waited for once").join().expect("the service does not panic")
    }

    /// What `/metrics` tells.
    pub(super) fn metrics(&self) -> String {
        let backend = &self.server.backend;
        backend.metrics.text(&Snapshot::take(backend).gauges())
    }

    /// Waits until this many images are admitted.
    pub(super) fn wait_for_load(&self, images: usize) {
        wait_until("the load", || self.server.backend.classifier.load().0 == images);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.begin_shutdown();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the service does not panic").expect("a clean end");
        }
    }
}

pub(super) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Holds the model back until it is opened.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(super) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(super) fn pass(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

pub(super) struct Client {
    reader: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(super) fn code(&self) -> String {
        self.json()["code"].as_str().expect("a problem has a code").to_owned()
    }
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Client {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Client { reader: BufReader::new(tcp) }
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).unwrap();
    }

    pub(super) fn finish_sending(&self) {
        self.reader.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer; `None` if the connection was closed instead.
    pub(super) fn try_read(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let status =
            line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        Some(Answer { status, headers, body })
    }

    pub(super) fn read(&mut self) -> Answer {
        self.try_read().expect("an answer, not a closed connection")
    }

    /// Everything up to and including `end`.
    pub(super) fn read_until_closed_or(&mut self, end: &str) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with(end) && self.reader.read(&mut byte).unwrap() == 1 {
            text.push(byte[0] as char);
        }
        text
    }

    /// True if the service closes the connection without a word before patience ends.
    pub(super) fn is_closed_by_service(&mut self) -> bool {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A request with a body of a declared length.
pub(super) fn post(target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {target} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n", body.len());
    if !content_type.is_empty() {
        request += &format!("content-type: {content_type}\r\n");
    }
    [request.as_bytes(), b"\r\n", body].concat()
}

pub(super) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: t\r\n\r\n").into_bytes()
}

/// A form of files, each under the given field name, with the boundary `XX`.
pub(super) fn form(field: &str, files: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for file in files {
        let head = format!(
            "--XX\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"a.bmp\"\r\ncontent-type: image/bmp\r\n\r\n"
        );
        body.extend([head.as_bytes(), file, b"\r\n"].concat());
    }
    body.extend(b"--XX--\r\n");
    body
}

pub(super) const FORM: &str = "multipart/form-data; boundary=XX";

/// Base64 straight from RFC 4648, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0u32, |bits, (i, &b)| bits | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] as char;
            text.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// Asserts that one entry of `predictions` says exactly what the model says.
pub(super) fn assert_same(found: &Value, expected: &Prediction) {
    assert_eq!(found["label"], expected.label.as_str());
    assert_eq!(found["index"], expected.index);
    assert_eq!(found["probability"].as_f64().unwrap() as f32, expected.probability);
    let top = found["top"].as_array().unwrap();
    assert_eq!(top.len(), expected.top.len());
    for (found, expected) in top.iter().zip(&expected.top) {
        assert_eq!(found["label"], expected.label.as_str());
        assert_eq!(found["index"], expected.index);
        assert_eq!(found["probability"].as_f64().unwrap() as f32, expected.probability);
    }
}

/// For services that train nothing.
pub(super) fn no_worker() -> crate::Worker {
    crate::Worker { program: "no-such-program".into() }
}
