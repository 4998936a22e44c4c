//! `ocelli serve`: answers over HTTP until a signal comes.

mod files;
mod keys;
mod log;
mod settings;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ocelli_common::text::printable;
use ocelli_pipeline::store::{Name, Store};
use ocelli_pipeline::{Compute, ModelFile, Predictor, default_model, open_model};
use ocelli_server::{Access, Config, Replica, Server, Sharing, Worker, model_files};
use tokio::net::TcpListener;

use crate::compute;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Output, Style};
use settings::ServiceSettings;

/// Where the demo serves.
const DEMO_ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
/// How many ports after that the demo tries where it is taken.
const DEMO_PORTS: u16 = 10;

const AFTER_HELP: &str = "\
Try it:
  curl -F file=@photo.jpg http://127.0.0.1:8080/predict       label a photo
  curl -F file=@photos.zip http://127.0.0.1:8080/upload-data  add a ZIP of class folders
  curl -X POST http://127.0.0.1:8080/retrain                  train on it; the better model takes over
  curl http://127.0.0.1:8080/status                           what runs, and how busy it is

Several models: ocelli serve --models DIR, or POST /v1/models; /predict?model=NAME asks one of them.

Keys: OCELLI_KEY_PREDICT, OCELLI_KEY_DATA and OCELLI_KEY_ADMIN, or --keys FILE with predict, data and admin.
Each opens its own routes and those of the scopes before it: predictions, data sets, training and models.
A file may have more keys, as tables [keys.NAME] with scope and key.

Signals: SIGTERM finishes what is asked and exits, SIGHUP reads keys, certificate and the serving version again.";

/// Serve a model over HTTP: predict, take new data, retrain
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// A .ocelli file, a run folder, a folder of models as for --models, or a model in this program (imagenet,
    /// fashion-mnist); the data folder's models if left out, or fashion-mnist
    model: Option<PathBuf>,
    /// Folder that is watched for model files: NAME.ocelli, or versions of a model as NAME/ANY.ocelli
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Shared store to which the models are published, for replicas: a folder, or s3://BUCKET/PREFIX, gs://.., az://..
    #[arg(long, value_name = "URL")]
    publish_to: Option<String>,
    /// Serve what is published to a shared store, and change nothing; the data folder is a copy of it
    #[arg(long, value_name = "URL", conflicts_with_all = ["model", "models", "publish_to"])]
    replica_of: Option<String>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    addr: SocketAddr,
    /// Folder for uploaded images, trained versions and jobs
    #[arg(long, value_name = "DIR", default_value = "ocelli-data")]
    data_dir: PathBuf,
    /// Name of the model in addresses and in the data folder, taken from the model if left out; of several models, the one
    /// that is asked where a request names none
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    settings: ServiceSettings,
    #[command(flatten)]
    compute: compute::Settings,
    #[command(flatten)]
    precision: compute::PrecisionSetting,
}

pub(crate) fn run(args: Args, out: &mut Output) -> Result<(), Failure> {
    args.settings.start_log();
    let access = args.settings.access(args.addr)?;
    // A folder without weights of a run, in which models are.
    let is_folder_of_models = |path: &PathBuf| {
        path.is_dir() && open_model(path).is_err() && model_files(path).is_ok_and(|files| !files.is_empty())
    };
    let (model, models) = match (args.model, args.models) {
        (Some(path), None) if is_folder_of_models(&path) => (None, Some(path)),
        both => both,
    };
    let sharing = args.publish_to.map(Sharing::PublishTo).or(args.replica_of.map(Sharing::ReplicaOf));
    if let Some(sharing) = &sharing {
        sharing.check()?;
    }
    let service = Service {
        model,
        models,
        data_dir: args.data_dir,
        name: args.name,
        sharing,
        compute: args.precision.compute(args.compute)?,
        config: args.settings.config()?,
        access,
        drain_delay: args.settings.drain_delay(),
    };
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
    let settings = args.settings;
    service.serve(bind, Arc::new(move || settings.access(args.addr)), &interrupt, out)
}

/// Serves what the demo has trained, on the first free port from 8080 on.
pub(crate) fn demo(
    model: &Path,
    compute: Compute,
    interrupt: &Interrupt,
    out: &mut Output,
) -> Result<(), Failure> {
    let service = Service {
        model: Some(model.to_owned()),
        models: None,
        // In the folder of the run, RUN/weights/best.ocelli: another run of the demo has another one.
        data_dir: model.ancestors().nth(2).unwrap_or(Path::new(".")).join("service"),
        name: None,
        sharing: None,
        compute,
        config: Config::default(),
        access: Access::default(),
        drain_delay: Duration::ZERO,
    };
    let taken = out.message_paint;
    let bind = async || {
        for port in DEMO_ADDR.port()..=DEMO_ADDR.port() + DEMO_PORTS {
            let addr = SocketAddr::new(DEMO_ADDR.ip(), port);
            match TcpListener::bind(addr).await {
                Ok(listener) => return Ok(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let note = taken.apply(Style::Yellow, "note:");
                    crate::output::print_message(format_args!(
                        "{note} port {port} is taken, trying the next one"
                    ));
                }
                Err(error) => {
                    return Err(Failure::failed(format!("cannot listen on {addr}: {error}"), SERVE_HINT));
                }
            }
        }
        Err(Failure::failed(format!("the ports from {} on are taken", DEMO_ADDR.port()), SERVE_HINT))
    };
    service.serve(bind, Arc::new(|| Ok(Access::default())), interrupt, out)
}

const SERVE_HINT: &str =
    "the model is trained: `ocelli serve RUN_FOLDER --addr 127.0.0.1:0` serves it on any free port";

/// The model at a path, or the one in this program.
pub(crate) fn open(model: Option<&Path>, compute: Compute) -> Result<Predictor, Failure> {
    Ok(match model {
        Some(path) => Predictor::open(path, compute)?,
        None => Predictor::from_model_file(default_model()?, compute)?,
    })
}

/// All that a service is started with.
struct Service {
    model: Option<PathBuf>,
    /// The folder of models.
    models: Option<PathBuf>,
    data_dir: PathBuf,
    name: Option<String>,
    sharing: Option<Sharing>,
    compute: Compute,
    config: Config,
    access: Access,
    drain_delay: Duration,
}

impl Service {
    fn serve(
        self,
        bind: impl AsyncFnOnce() -> Result<TcpListener, Failure>,
        read_access: ReadAccess,
        interrupt: &Interrupt,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let drain_delay = self.drain_delay;
        let scheme = if self.access.tls.is_some() { "https" } else { "http" };
        // Before anything that takes time: a port that is taken is the most likely mistake.
        // Connections only: the network runs on threads of its own.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(network_threads())
            .enable_all()
            .build()
            .map_err(|error| Failure::io(Path::new("server threads"), &error))?;
        runtime.block_on(async {
            let listener = bind().await?;
            let addr = listener.local_addr().map_err(|error| Failure::io(Path::new("socket"), &error))?;
            let hangups = Hangups::listen()?;
            interrupt
                .announce("shutting down: requests in flight are finished, a second signal stops at once");
            let server = match self.sharing.clone() {
                Some(Sharing::ReplicaOf(address)) => {
                    // Said before there is a model: supervisors may ask whether it lives.
                    out.line(format_args!("listening on {scheme}://{addr}"))?;
                    out.flush()?;
                    tokio::select! {
                        opened = self.open_replica(address, &listener, out) => opened?,
                        () = interrupt.wait() => return Ok(()),
                    }
                }
                _ => {
                    let server = self.open(out)?;
                    out.line(format_args!("listening on {scheme}://{addr}"))?;
                    out.flush()?;
                    server
                }
            };
            let server = Arc::new(server);
            out.say(format_args!("predict   curl -F file=@photo.jpg {scheme}://{addr}/predict"));
            out.say(format_args!("status    curl {scheme}://{addr}/status"));
            out.say(format_args!("the rest  {scheme}://{addr}/docs"));
            out.say("stop      Ctrl-C");
            let shutdown = async {
                interrupt.wait().await;
                // Whoever presses Ctrl-C has no balancer that must notice.
                if interrupt.is_terminate() { drain_delay } else { Duration::ZERO }
            };
            let served = ocelli_server::run(listener, server.clone(), shutdown);
            tokio::select! {
                ended = served => ended.map_err(Failure::from),
                never = reload_on_hangup(hangups, &server, read_access) => never,
            }
        })
    }

    /// Opens the data folder and the model, and tells what a person should know.
    fn open(self, out: &mut Output) -> Result<Server, Failure> {
        let store = Store::open(&self.data_dir)?;
        let (name, seed) = self.choose(&store)?;
        let given =
            seed.as_ref().map(|file| file.content_hash().map(|hash| ocelli_pipeline::version_id(&hash)));
        let given = given.transpose()?;
        let classes =
            |count: usize| if count == 1 { "1 class".to_owned() } else { format!("{count} classes") };
        let worker =
            Worker::this_program().map_err(|error| Failure::io(Path::new("this program"), &error))?;
        store.set_default_model(&name)?;
        let mut server =
            Server::with_data(store, (&name, seed), self.compute, self.config, self.access, worker)?;
        if let Some(models) = &self.models {
            server.watch_folder(models)?;
        }
        if let Some(sharing) = &self.sharing {
            server.share(sharing, &self.data_dir)?;
        }
        let (version, count) = (server.version(), server.classes());
        out.say(format_args!("model     {} ({version}), {}", printable(name.as_str()), classes(count)));
        if server.models() > 1 {
            out.say(format_args!("models    {} in all; this is the default one", server.models()));
        }
        out.say(format_args!("data      {}", printable(&self.data_dir.display().to_string())));
        if let Some(given) = given.filter(|given| *given != version && self.model.is_some()) {
            let note = out.message_paint.apply(Style::Yellow, "note:");
            out.say(format_args!(
                "{note} the data folder serves version {version}; POST /v1/models/{given}/promote serves the one you named"
            ));
        }
        Ok(server)
    }

    /// As [`Service::open`], for a replica: waits for a first model, and mends what the data folder has and cannot serve.
    async fn open_replica(
        self,
        address: String,
        listener: &TcpListener,
        out: &mut Output,
    ) -> Result<Server, Failure> {
        let default = self.name.as_deref().map(|name| Name::new("model", name)).transpose()?;
        let config = Config { read_only: true, ..self.config.clone() };
        let (compute, data_dir) = (self.compute, self.data_dir.clone());
        let replica = Replica { address, data_dir, default, compute, config };
        let mut mend = false;
        loop {
            let name = replica.first_model(listener, &self.access, mend).await?;
            let service = Service {
                model: None,
                models: None,
                data_dir: self.data_dir.clone(),
                name: Some(name.as_str().to_owned()),
                sharing: self.sharing.clone(),
                compute: self.compute,
                config: replica.config.clone(),
                access: self.access.clone(),
                drain_delay: self.drain_delay,
            };
            match tokio::task::block_in_place(|| service.open(out)) {
                Ok(server) => return Ok(server),
                Err(failure) => {
                    let reason = failure.message().map_or("", |message| message.text.as_str());
                    tracing::error!(
                        "what the data folder has cannot be served, and is taken again: {reason}"
                    );
                    mend = true;
                }
            }
        }
    }

    /// The model of the folder of models that is the default one where the data folder has none: the one of this name, or the
    /// first one that can be read.
    fn first_of_folder(&self, named: Option<&Name>) -> Result<Option<(Name, Option<ModelFile>)>, Failure> {
        let Some(dir) = &self.models else { return Ok(None) };
        let files = model_files(dir).map_err(|error| Failure::io(dir, &error))?;
        let mut failure = None;
        for (name, path) in files {
            let Ok(name) = Name::new("model", &name) else { continue };
            if named.is_some_and(|named| *named != name) {
                continue;
            }
            match open_model(&path) {
                Ok(file) => return Ok(Some((name, Some(ModelFile { training: None, ..file })))),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Err(Failure::usage(
                format!("the folder {} has no such model", printable(&dir.display().to_string())),
                "put model files into it as NAME.ocelli, or name a model to begin with",
            )),
        }
    }

    /// The name of the model, and the model that was named.
    fn choose(&self, store: &Store) -> Result<(Name, Option<ModelFile>), Failure> {
        let named = match &self.name {
            Some(name) => Some(Name::new("model", name)?),
            None => None,
        };
        let known = store.models()?;
        if self.model.is_none() {
            match (named.clone(), known.as_slice()) {
                (Some(name), known) if known.contains(&name) => return Ok((name, None)),
                (None, [only]) => return Ok((only.clone(), None)),
                (None, [_, _, ..]) => {
                    if let Some(name) = store.default_model()?.filter(|name| known.contains(name)) {
                        return Ok((name, None));
                    }
                    let names: Vec<&str> = known.iter().map(Name::as_str).collect();
                    return Err(Failure::usage(
                        format!("the data folder has several models: {}", names.join(", ")),
                        "say with --name which one is asked where a request names none",
                    ));
                }
                _ => {}
            }
            if let Some(first) = self.first_of_folder(named.as_ref())? {
                return Ok(first);
            }
        }
        let file = match &self.model {
            Some(path) => open_model(path)?,
            None => default_model()?,
        };
        let file = ModelFile { training: None, ..file };
        Ok((named.unwrap_or_else(|| Name::nearest(&file.meta.name)), Some(file)))
    }
}

/// Threads that serve connections. Half the cores, as decoding and the network need the others; of two cores, one thread
/// answered a third more small images a second than two did, which kept waking each other.
fn network_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    (cores / 2).clamp(1, 8)
}

/// SIGHUP, which asks to read keys, certificate and the serving version again.
struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Starts to listen. Before a service says that it is there: until then the signal would end it.
    fn listen() -> Result<Hangups, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let failed = |error: io::Error| Failure::io(Path::new("signal handler"), &error);
            Ok(Hangups { signal: signal(SignalKind::hangup()).map_err(failed)? })
        }
        #[cfg(not(unix))]
        Ok(Hangups {})
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}

/// Reads keys and certificate anew; the text of an error is for people.
type ReadAccess = Arc<dyn Fn() -> Result<Access, Failure> + Send + Sync>;

/// How long files of keys and certificates may take: what is asked for may be a pipe that nobody writes to.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Reads on a thread that nobody waits for longer than the limit, not even at the end of the program.
async fn read_apart(read_access: ReadAccess) -> Result<Access, String> {
    let (sender, read) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("ocelli-reload".into()).spawn(move || {
        // Nobody listens where the limit has passed.
        let _ = sender.send(read_access());
    });
    started.map_err(|error| format!("no thread to read them: {error}"))?;
    match tokio::time::timeout(READ_LIMIT, read).await {
        Ok(Ok(Ok(access))) => Ok(access),
        Ok(Ok(Err(failure))) => {
            Err(failure.message().map_or_else(String::new, |message| message.text.clone()))
        }
        Ok(Err(_)) => Err("reading them failed inside the program".to_owned()),
        Err(_) => Err(format!("their files could not be read within {} s", READ_LIMIT.as_secs())),
    }
}

/// Reads anew at every hangup; never ends.
async fn reload_on_hangup(
    mut hangups: Hangups,
    server: &Arc<Server>,
    read_access: ReadAccess,
) -> Result<(), Failure> {
    loop {
        hangups.next().await;
        let access = match read_apart(read_access.clone()).await {
            Ok(access) => access,
            Err(reason) => {
                tracing::error!("keys and certificate stay as they were: {reason}");
                continue;
            }
        };
        let server = server.clone();
        match tokio::task::spawn_blocking(move || server.reload(access)).await {
            Ok(Ok(version)) => tracing::info!(%version, "reloaded"),
            Ok(Err(reason)) => tracing::error!("not all was reloaded: {reason}"),
            Err(_) => tracing::error!("not all was reloaded: the old version goes on"),
        }
    }
}
