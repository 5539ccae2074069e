//! The log and trace layers while the program's subscriber panics, and the fields of a log line.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rpc_client::Client;
use rpc_core::{Code, Token, Tokens, layer::Layered};
use rpc_layers::{Log, Trace};
use rpc_server::Server;
use tests::{
    Task, patient,
    probe::{Event, Probe, ProbingClient},
    serving::Serving,
};
use tracing::{Id, Metadata, Subscriber, span};
use tracing_subscriber::{
    Layer,
    fmt::MakeWriter,
    layer::{Context, SubscriberExt as _},
};

use crate::caller;

/// A sink that panics at every event and span of rpc-layers. Clones share the count.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicUsize>);

impl Broken {
    fn fail(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("intended panic in the log sink");
    }
}

impl<S: Subscriber> Layer<S> for Broken {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("rpc_layers")
    }

    fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
        self.fail();
    }

    fn on_record(&self, _: &Id, _: &span::Record<'_>, _: Context<'_, S>) {
        self.fail();
    }

    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.fail();
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        self.fail();
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.fail();
    }
}

#[tokio::test]
async fn failing_log_sink_fails_no_call() {
    let broken = Broken::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(broken.clone()));
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).layer(Trace).layer(Log)).await;
    let address = serving.address();
    let probing = ProbingClient::new(Layered::new(caller()).layer(Trace).layer(Log));
    for _ in 0..2 {
        probing.echo("x".to_owned()).address(address).await.unwrap();
        // The sink fails while the handler's panic unwinds.
        for at_once in [true, false] {
            let error = probing.panic(at_once).address(address).await.unwrap_err();
            assert_eq!(error.code(), Code::Internal, "{error:?}");
        }
        let held = Task::begin(probing.hold(1).address(address));
        probe.until(Event::Began(1)).await;
        held.abort().await;
        probe.until(Event::Dropped(1)).await;
    }
    assert!(broken.0.load(Ordering::Relaxed) > 20, "the sink is in use");
}

/// A writer into memory. Clones share the text.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn log_line_names_peer_and_identity() {
    let written = Written::default();
    let format = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(written.clone());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(format));
    let secret = "the secret of ann, the caller";
    let server = Server::builder().service(Probe::default().server()).layer(Log);
    let anonymous = Serving::start(server).await;
    let tokens = Tokens::new().with("ann", secret).unwrap();
    let server = Server::builder().service(Probe::default().server()).layer(Log).require_token(tokens);
    let identified = Serving::start(server).await;
    let client = Client::builder().config(patient()).token(Token::new("ann", secret).unwrap()).build().unwrap();
    let probing = ProbingClient::new(client);
    let seen = probing.context().address(identified.address()).await.unwrap();
    probing.echo("x".to_owned()).address(anonymous.address()).await.unwrap();
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let line = |part: &str| text.lines().find(|line| line.contains("served") && line.contains(part)).unwrap();
    let expected = format!(" peer={} identity=ann code=Ok ", seen.peer.unwrap());
    assert!(line("Probe:1.0/context").contains(&expected), "{expected}: {text}");
    assert!(line("Probe:1.0/echo").contains(" peer=127.0.0.1:") && !line("/echo").contains("identity"), "{text}");
}
