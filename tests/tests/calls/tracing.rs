//! Traces across client, server and nested calls, and the log layer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rpc_client::Client;
use rpc_core::{CallOptions, Context, Token, Tokens, layer::Layered, rpc_service};
use rpc_layers::{Log, Trace, TraceContext};
use rpc_server::{Server, ServerConfig};
use tests::{
    certificates::Authority,
    probe::{Probe, ProbingClient},
    process::test_process,
    raw_peer::{RawFrame, RawPeer},
    serving::Serving,
};
use tracing::{
    Event, Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, layer::Context as LayerContext, layer::SubscriberExt as _, registry::LookupSpan};

use crate::caller;

type Fields = HashMap<String, String>;

/// The recorded spans and events. Clones share them.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, Fields)>>>);

/// Collects the fields of a span or an event as text.
struct Collect<'a>(&'a mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: LayerContext<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Collect(&mut fields));
        context.span(id).expect("the span is new").extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: LayerContext<'_, S>) {
        let span = context.span(id).expect("the span is open");
        values.record(&mut Collect(
            span.extensions_mut().get_mut::<Fields>().expect("`on_new_span` inserted the fields"),
        ));
    }

    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Collect(&mut fields));
        let message = fields.get("message").cloned().unwrap_or_default();
        self.0.lock().expect("the lock is not poisoned").push((message, fields));
    }

    fn on_close(&self, id: Id, context: LayerContext<'_, S>) {
        let span = context.span(&id).expect("the span closes once");
        let fields = span.extensions_mut().remove::<Fields>().expect("`on_new_span` inserted the fields");
        self.0.lock().expect("the lock is not poisoned").push((span.name().to_owned(), fields));
    }
}

impl Seen {
    fn listen() -> (Self, DefaultGuard) {
        let seen = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(seen.clone()));
        (seen, guard)
    }

    /// Returns the only span or event with this name and this field.
    fn one(&self, name: &str, field: &str, value: &str) -> Fields {
        let all = self.0.lock().expect("the lock is not poisoned");
        let found: Vec<_> = all
            .iter()
            .filter(|(recorded, fields)| recorded == name && fields.get(field).is_some_and(|found| found == value))
            .collect();
        assert_eq!(found.len(), 1, "{name} with {field} = {value}: {all:#?}");
        found[0].1.clone()
    }
}

/// A service whose handler calls another service.
#[rpc_service(name = "test.Front", version = "1.0")]
trait Front {
    /// Returns the trace context that the next service receives.
    async fn ask(&self) -> Option<String>;
}

struct Asking {
    next: ProbingClient<Layered<Client>>,
    plain: bool,
}

impl Front for Asking {
    async fn ask(&self) -> Option<String> {
        let seen = self.next.context().await.expect("the call succeeds");
        if self.plain {
            assert_eq!(TraceContext::current(), None);
        } else {
            let own = TraceContext::current().expect("the handler is traced");
            let metadata = CallOptions::inherited().metadata.clone();
            let received = Context::current().expect("the handler has a context");
            assert_eq!(metadata.get("traceparent"), received.metadata().get("traceparent"));
            assert!(seen.metadata("traceparent").is_some_and(|sent| sent.contains(&own.trace_id())));
        }
        seen.metadata("traceparent").map(str::to_owned)
    }
}

/// A client layer that sends every call to one address.
#[derive(Clone)]
struct To(std::net::SocketAddr);

impl rpc_core::layer::ClientLayer for To {
    async fn call(
        &self,
        mut call: rpc_core::layer::OutgoingCall,
        next: rpc_core::layer::ClientNext<'_>,
    ) -> Result<rpc_core::Reply, rpc_core::Error> {
        call.options.address = Some(self.0);
        next.run(call).await
    }
}

#[tokio::test]
async fn trace_spans_client_server_and_nested_calls() {
    let (seen, _guard) = Seen::listen();
    let probe = Probe::default();
    let back = Serving::start(Server::builder().service(probe.server()).layer(Trace)).await;
    let next = ProbingClient::new(Layered::new(caller()).layer(Trace).layer(To(back.address())));
    let front = Server::builder().service(FrontServer::new(Asking { next, plain: false })).layer(Trace);
    let front = Serving::start(front).await;
    let client = FrontClient::new(Layered::new(caller()).layer(Trace));
    let sent = client.ask().address(front.address()).await.expect("the call succeeds").expect("the call is traced");

    let spans = [("call", "ask"), ("serve", "ask"), ("call", "context"), ("serve", "context")]
        .map(|(span, method)| seen.one(span, "rpc.method", method));
    for span in &spans {
        assert_eq!(span["trace_id"], spans[0]["trace_id"], "one trace");
        assert_eq!((&*span["code"], &*span["rpc.system"]), ("Ok", "msnb"));
    }
    assert!(!spans[0].contains_key("parent_id"), "the first span has no parent");
    for pair in spans.windows(2) {
        assert_eq!(pair[1]["parent_id"], pair[0]["span_id"]);
    }
    assert_eq!(sent, format!("00-{}-{}-01", spans[2]["trace_id"], spans[2]["span_id"]));
}

#[tokio::test]
async fn server_continues_valid_traces_only() {
    let (seen, _guard) = Seen::listen();
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).layer(Trace)).await;
    let plain = ProbingClient::new(caller());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    plain
        .echo("x".to_owned())
        .metadata("traceparent", parent)
        .address(serving.address())
        .await
        .expect("the call succeeds");
    let span = seen.one("serve", "rpc.method", "echo");
    assert_eq!(span["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span["parent_id"], "b7ad6b7169203331");
    let call = plain.context().metadata("traceparent", "00-nonsense").address(serving.address());
    call.await.expect("the call succeeds");
    let span = seen.one("serve", "rpc.method", "context");
    assert_eq!(span["trace_id"].len(), 32);
    assert!(!span.contains_key("parent_id"));

    // A traced client continues the trace context that its caller sets.
    let traced = ProbingClient::new(Layered::new(caller()).layer(Trace));
    let call = traced.context().metadata("traceparent", parent).metadata("tracestate", "rojo=1");
    let got = call.address(serving.address()).await.expect("the call succeeds");
    let sent = got.metadata("traceparent").expect("the call is traced");
    assert!(sent.contains("0af7651916cd43dd8448eb211c80319c") && sent != parent, "{sent}");
    assert_eq!(got.metadata.len(), 2, "the layer replaces the caller's trace context: {:?}", got.metadata);
    assert_eq!(got.metadata("tracestate"), Some("rojo=1"));
}

#[tokio::test]
async fn untraced_process_forwards_trace_context() {
    // The subscribers of other tests change the caches of tracing, so this test needs a process without any.
    if std::env::var_os(UNTRACED).is_none() {
        let output = test_process(&["--exact", "tracing::untraced_process_forwards_trace_context"])
            .env(UNTRACED, "1")
            .output()
            .expect("the test binary starts");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
        return;
    }
    let probe = Probe::default();
    let back = Serving::probe(&probe, ServerConfig::default()).await;
    let next = ProbingClient::new(Layered::new(caller()).layer(To(back.address())));
    let front = Server::builder().service(FrontServer::new(Asking { next, plain: true }));
    let front = Serving::start(front).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let client = FrontClient::new(Layered::new(caller()).layer(Trace));
    let sent = client.ask().metadata("traceparent", parent).address(front.address()).await.expect("the call succeeds");
    assert_eq!(sent.as_deref(), Some(parent));
}

#[tokio::test]
async fn span_records_failure_of_call() {
    let (seen, _guard) = Seen::listen();
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).layer(Trace)).await;
    let probing = ProbingClient::new(Layered::new(caller()).layer(Trace));
    probing.panic(true).address(serving.address()).await.expect_err("the handler panics");
    for span in ["call", "serve"] {
        let span = seen.one(span, "rpc.method", "panic");
        assert_eq!((&*span["code"], &*span["otel.status_code"]), ("Internal", "ERROR"));
    }
    probing.fail("why".to_owned()).address(serving.address()).await.expect_err("the service returns an error");
    for span in ["call", "serve"] {
        let span = seen.one(span, "rpc.method", "fail");
        assert_eq!(span["code"], "Application");
        assert!(!span.contains_key("otel.status_code"), "a service error is no failure of the call");
    }
}

#[tokio::test]
async fn log_layer_logs_each_call_at_both_ends() {
    let (seen, _guard) = Seen::listen();
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).layer(Log)).await;
    let probing = ProbingClient::new(Layered::new(caller()).layer(Log));
    probing.echo("a secret".to_owned()).address(serving.address()).await.expect("the call succeeds");
    probing.panic(true).address(serving.address()).await.expect_err("the handler panics");
    assert_eq!(seen.one("served", "route", "test.Probe:1.0/echo")["code"], "Ok");
    assert_eq!(seen.one("called", "route", "test.Probe:1.0/echo")["outcome"], "Ok");
    assert_eq!(seen.one("served", "route", "test.Probe:1.0/panic")["code"], "Internal");
    assert!(seen.one("called", "route", "test.Probe:1.0/panic")["outcome"].starts_with("Internal from 127.0.0.1:"));
    let all = seen.0.lock().expect("the lock is not poisoned");
    assert!(all.iter().all(|(_, fields)| fields.values().all(|value| !value.contains("secret"))));
}

#[tokio::test]
async fn repeated_rejections_log_one_line() {
    let (seen, _guard) = Seen::listen();
    let serving = Serving::probe(&Probe::default(), ServerConfig::default().with_max_connections(1)).await;
    let mut admitted = RawPeer::connect(serving.address()).await;
    admitted.ask(&RawFrame::empty(RawFrame::PING, 1)).await;
    for _ in 0..20 {
        RawPeer::connect(serving.address()).await.try_receive().await;
    }
    serving.until_counted(|counts| counts.connections_rejected == 20).await;
    seen.one("rejecting connections above the limit", "ip", "Some(127.0.0.1)");
}

#[tokio::test]
async fn rejected_peers_log_one_warning_each() {
    let (seen, _guard) = Seen::listen();
    let probe = Probe::default();
    let tokens = Tokens::new().with("ann", "the secret of ann, the caller").unwrap();
    let builder = Server::builder().service(probe.server()).require_token(tokens).allow("test.Probe:1.0/fail", ["bob"]);
    let serving = Serving::start(builder).await;
    for _ in 0..3 {
        let mut peer = RawPeer::connect(serving.address()).await;
        peer.receive().await;
        peer.send(RawFrame::empty(RawFrame::PROOF, 0).with_body([0; 70]).to_bytes()).await;
        assert_eq!(peer.receive().await.kind, RawFrame::GOAWAY);
    }
    serving.until_counted(|counts| counts.handshakes_failed == 3).await;
    let rejected = seen.one(HANDSHAKE_WARNING, "error", "the token is not accepted here");
    assert!(rejected["peer"].starts_with("127.0.0.1:"), "{rejected:?}");
    let token = Token::new("ann", "the secret of ann, the caller").unwrap();
    let client = ProbingClient::new(Client::builder().token(token).build().unwrap());
    for _ in 0..3 {
        client.fail("x".to_owned()).address(serving.address()).await.expect_err("the rule denies the call");
    }
    let denied = seen.one(DENIED_WARNING, "identity", "ann");
    assert_eq!(denied["route"], "test.Probe:1.0/fail");
    assert!(denied["peer"].starts_with("127.0.0.1:"), "{denied:?}");
}

#[tokio::test]
async fn plain_text_on_a_tls_port_logs_a_warning() {
    let (seen, _guard) = Seen::listen();
    let (probe, authority) = (Probe::default(), Authority::new());
    let tls = authority.issue("server", &["127.0.0.1"]).server();
    let serving = Serving::start(Server::builder().service(probe.server()).tls(tls)).await;
    // A health check that only connects is no reason for a warning.
    drop(tokio::net::TcpStream::connect(serving.address()).await.unwrap());
    serving.until_counted(|counts| counts.handshakes_failed == 1).await;
    let mut peer = RawPeer::connect(serving.address()).await;
    peer.send(RawFrame::empty(RawFrame::PING, 1).to_bytes()).await;
    serving.until_counted(|counts| counts.handshakes_failed == 2).await;
    seen.one(HANDSHAKE_WARNING, "error", "the TLS handshake failed: the peer does not use TLS");
    let all = seen.0.lock().expect("the lock is not poisoned");
    assert_eq!(all.iter().filter(|(message, _)| message == HANDSHAKE_WARNING).count(), 1);
}

const HANDSHAKE_WARNING: &str = "handshake failed; further warnings about this peer follow after 10 s";
const DENIED_WARNING: &str = "call denied by ServerBuilder::allow; further warnings about this peer follow after 10 s";

/// The environment variable that marks the process without a subscriber.
const UNTRACED: &str = "MSNB_TEST_UNTRACED";
