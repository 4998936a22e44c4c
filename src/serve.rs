//! `ocelli serve`: answers over HTTP until a signal comes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocelli_pipeline::{Compute, Predictor};
use ocelli_server::{Config, State};
use tokio::net::TcpListener;

use crate::compute;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Output, Style, printable};

/// Where the demo serves.
const DEMO_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
/// How many ports after that the demo tries where it is taken.
const DEMO_PORTS: u16 = 10;

/// Serve a model over HTTP
///
/// curl -F file=@photo.jpg http://127.0.0.1:8080/predict
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A .ocelli file or a run folder; the built-in model if left out
    model: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    #[command(flatten)]
    compute: compute::Settings,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    let predictor = open(args.model.as_deref(), args.compute.into())?;
    let interrupt = Interrupt::listen()?;
    let bind = async || {
        TcpListener::bind(args.addr).await.map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program has this port: choose one with --addr, or port 0 for any"
                }
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need rights: choose a higher one with --addr"
                }
                _ => "choose an address of this machine with --addr, e.g. 127.0.0.1:8080",
            };
            Failure::failed(format!("cannot listen on {}: {error}", args.addr), hint)
        })
    };
    serve(predictor, bind, &interrupt, out)
}

/// Serves what the demo has trained, on the first free port from 8080 on.
pub(crate) fn demo(
    model: &Path,
    compute: Compute,
    interrupt: &Interrupt,
    out: &mut Output,
) -> Result<(), Failure> {
    let predictor = open(Some(model), compute)?;
    let taken = out.talk_paint;
    let bind = async || {
        for port in DEMO_ADDR.port()..=DEMO_ADDR.port() + DEMO_PORTS {
            let addr = SocketAddr::new(DEMO_ADDR.ip(), port);
            match TcpListener::bind(addr).await {
                Ok(listener) => return Ok(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let note = taken.apply(Style::Yellow, "note:");
                    crate::output::talk(format_args!("{note} port {port} is taken, trying the next one"));
                }
                Err(error) => {
                    return Err(Failure::failed(format!("cannot listen on {addr}: {error}"), SERVE_HINT));
                }
            }
        }
        Err(Failure::failed(format!("the ports from {} on are taken", DEMO_ADDR.port()), SERVE_HINT))
    };
    serve(predictor, bind, interrupt, out)
}

const SERVE_HINT: &str =
    "the model is trained: `ocelli serve RUN_FOLDER --addr 127.0.0.1:0` serves it on any free port";

/// The model at a path, or the one in this program.
pub(crate) fn open(model: Option<&Path>, compute: Compute) -> Result<Predictor, Failure> {
    Ok(match model {
        Some(path) => Predictor::open(path, compute)?,
        None => Predictor::shipped(compute)?,
    })
}

fn serve(
    predictor: Predictor,
    bind: impl AsyncFnOnce() -> Result<TcpListener, Failure>,
    interrupt: &Interrupt,
    out: &mut Output,
) -> Result<(), Failure> {
    let (name, version) = (predictor.meta().name.clone(), predictor.version().to_owned());
    let classes = predictor.meta().classes.len();
    let state = Arc::new(State::new(predictor, Config::default())?);
    interrupt.announce("shutting down: requests in flight are finished, a second signal stops at once");
    // Connections only: the network runs on threads of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io(Path::new("server threads"), &error))?;
    runtime.block_on(async {
        let listener = bind().await?;
        let addr = listener.local_addr().map_err(|error| Failure::io(Path::new("socket"), &error))?;
        out.line(format_args!("listening on http://{addr}"))?;
        out.flush()?;
        out.say(format_args!("model     {} ({version}), {classes} classes", printable(&name)));
        out.say(format_args!("predict   curl -F file=@photo.jpg http://{addr}/predict"));
        out.say(format_args!("status    curl http://{addr}/status"));
        out.say("stop      Ctrl-C");
        if !addr.ip().is_loopback() {
            out.warn("anybody who reaches this address may use the model: there is no password");
        }
        ocelli_server::run(listener, state, interrupt.wait()).await.map_err(Failure::from)
    })
}
