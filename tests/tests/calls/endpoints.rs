//! Endpoints: another protocol on the port of a server calls its services with the same limits, rules and draining.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rpc_core::{
    BoxFuture, Codec, Discovery as _, Error, MethodInfo, Payload, Received, ServiceId, Streaming, Tokens,
    layer::{IncomingCall, Served, ServerLayer, ServerNext},
    rpc_service,
};
use rpc_registry::Memory;
use rpc_server::{
    Endpoint, EndpointConnection, EndpointEntry, EndpointHandler, EndpointItems, EndpointReply, EndpointRequest,
    EndpointServices, Server, ServerBuilder, ServerConfig,
};
use tests::{
    Task,
    certificates::Authority,
    in_time,
    probe::{Event, Probe, ProbingClient},
    serving::{PROBE, Serving},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::caller;

/// An endpoint of lines: `LINE method arguments`, answered by lines that end with one that does not begin with `item`.
#[derive(Clone, Default)]
struct Lines {
    methods: Vec<MethodInfo>,
    name: Option<&'static str>,
}

impl Endpoint for Lines {
    fn bind(mut self: Box<Self>, offered: EndpointServices<'_>) -> Result<Arc<dyn EndpointHandler>, Error> {
        self.methods = offered.services.iter().flat_map(|(_, service)| service.methods().to_vec()).collect();
        Ok(Arc::new(*self))
    }
}

impl EndpointHandler for Lines {
    fn protocols(&self) -> &[&'static [u8]] {
        &[b"lines"]
    }

    fn matches(&self, start: &[u8]) -> Option<bool> {
        let length = start.len().min(4);
        (start[..length] != b"LINE"[..length]).then_some(false).or((length == 4).then_some(true))
    }

    fn serve(&self, connection: EndpointConnection) -> BoxFuture<'static, ()> {
        let endpoint = self.clone();
        Box::pin(async move {
            let mut io = BufReader::new(connection.take_io().unwrap());
            loop {
                let mut line = String::new();
                tokio::select! {
                    biased;
                    read = io.read_line(&mut line) => if read.is_err() || line.is_empty() { return },
                    () = connection.draining() => return,
                }
                let answer = endpoint.answer(&connection, line.trim()).await;
                if io.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
    }

    fn registrations(&self) -> Vec<EndpointEntry> {
        self.name.into_iter().map(|name| EndpointEntry::new(ServiceId::unversioned(name).unwrap())).collect()
    }
}

impl Lines {
    async fn answer(&self, connection: &EndpointConnection, line: &str) -> String {
        let [_, options, route, arguments] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            return line.to_owned();
        };
        let mut request = EndpointRequest::new(route, Codec::Json, Bytes::copy_from_slice(arguments.as_bytes()));
        if let Some(method) = self.methods.iter().find(|method| method.route() == route) {
            request = request.form(method);
        }
        let mut senders = Vec::new();
        for option in options.split(',') {
            request = match option.split_once('=') {
                Some(("token", secret)) => match connection.token(None, secret.as_bytes()) {
                    Some(token) => request.token(token),
                    None => request,
                },
                Some(("ms", timeout)) => request.timeout(Duration::from_millis(timeout.parse().unwrap())),
                Some(("key", key)) => request.once_key([key.parse().unwrap(); 16]),
                Some(("items", items)) => {
                    let (sender, sent) = EndpointItems::channel(1);
                    let items: Vec<_> = items.split('+').map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
                    senders.push(Task::begin(async move {
                        for item in items {
                            // Fails if the call has ended.
                            let _ = sender.send(item).await;
                        }
                    }));
                    request.items(sent)
                }
                _ => request,
            };
        }
        match connection.call(request).await {
            Ok(EndpointReply { mut reply, unread }) => {
                let mut lines = String::new();
                while let Some(items) = &mut reply.items {
                    match std::future::poll_fn(|cx| items.poll_item(cx)).await {
                        Received::Item(Payload { bytes, .. }) => {
                            items.release(bytes.len());
                            lines += &format!("item {}\n", String::from_utf8_lossy(&bytes));
                        }
                        Received::End(Ok(end)) => return lines + &last(&end),
                        Received::End(Err(error)) => return lines + &failed(&error),
                    }
                }
                drop(unread);
                last(&reply)
            }
            Err(error) => failed(&error),
        }
    }
}

fn last(reply: &rpc_core::Reply) -> String {
    let kind = if reply.is_application_error { "service" } else { "ok" };
    format!("{kind} {}\n", String::from_utf8_lossy(&reply.payload.bytes))
}

fn failed(error: &Error) -> String {
    format!("{:?} {:?} {}\n", error.code(), error.delivery(), error.message())
}

#[rpc_service(name = "test.Texts", version = "1.0")]
trait Texts {
    async fn count(&self, to: u32) -> Streaming<u32>;
    async fn sum(&self, numbers: Streaming<u32>) -> u32;
    async fn double(&self, numbers: Streaming<u32>) -> Streaming<u32>;
}

struct MyTexts;

impl Texts for MyTexts {
    async fn count(&self, to: u32) -> Streaming<u32> {
        (1..=to).collect()
    }

    async fn sum(&self, mut numbers: Streaming<u32>) -> u32 {
        let mut sum = 0;
        while let Some(Ok(number)) = numbers.next().await {
            sum += number;
        }
        sum
    }

    async fn double(&self, mut numbers: Streaming<u32>) -> Streaming<u32> {
        let mut doubled = Vec::new();
        while let Some(Ok(number)) = numbers.next().await {
            doubled.push(2 * number);
        }
        doubled.into_iter().collect()
    }
}

/// A caller of the endpoint.
struct LineCaller<S>(BufReader<S>);

impl LineCaller<TcpStream> {
    async fn connect(serving: &Serving) -> Self {
        Self(BufReader::new(TcpStream::connect(serving.address()).await.unwrap()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> LineCaller<S> {
    async fn send(&mut self, call: &str) {
        self.0.write_all(format!("LINE {call}\n").as_bytes()).await.unwrap();
    }

    /// Returns the lines of an answer; none at the end of the connection.
    async fn receive(&mut self) -> Vec<String> {
        in_time(async {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if self.0.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return lines;
                }
                lines.push(line.trim().to_owned());
                if !line.starts_with("item") {
                    return lines;
                }
            }
        })
        .await
    }

    async fn call(&mut self, call: &str) -> String {
        self.send(call).await;
        self.receive().await.join("; ")
    }
}

fn lines(probe: &Probe) -> ServerBuilder {
    Server::builder().service(probe.server()).service(TextsServer::new(MyTexts)).endpoint(Lines::default())
}

#[tokio::test]
async fn endpoint_and_msnb_share_the_port() {
    let probe = Probe::default();
    let serving = Serving::start(lines(&probe)).await;
    let msnb = ProbingClient::new(caller());
    let mut one = LineCaller::connect(&serving).await;
    for _ in 0..2 {
        assert_eq!(msnb.echo("a".into()).address(serving.address()).await.unwrap(), "a");
        assert_eq!(one.call(r#"- test.Probe:1.0/echo {"text":"b"}"#).await, r#"ok "b""#);
    }
    assert_eq!(one.call(r#"- test.Probe:1.0/fail {"reason":"x"}"#).await, r#"service {"reason":"x"}"#);
    assert_eq!(one.call(r#"- test.Probe:1.0/tell {"text":"c"}"#).await, "ok");
    probe.until(Event::Received("c".to_owned())).await;
    let seen = one.call("- test.Probe:1.0/context {}").await;
    assert!(seen.contains(r#""peer":"127.0.0.1:"#) && seen.contains("anonymous"), "{seen}");
    let length = 3 << 20;
    let large = one.call(&format!(r#"- test.Probe:1.0/large {{"length":{length}}}"#)).await;
    assert_eq!(large.len(), length + r#"ok """#.len());
    let text = "y".repeat(length);
    assert!(one.call(&format!(r#"- test.Probe:1.0/echo {{"text":"{text}"}}"#)).await == format!("ok \"{text}\""));
    assert_eq!(serving.handle().counts().connections, 2);
}

#[tokio::test]
async fn endpoint_calls_fail_as_those_of_msnb() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_max_running(1).with_max_queued(0);
    let serving = Serving::start(lines(&probe).config(config)).await;
    let mut one = LineCaller::connect(&serving).await;
    for (call, expected) in [
        ("- test.Probe:1.0/none {}", "Unimplemented NotExecuted no such method here: test.Probe:1.0/none"),
        ("- test.Probe:2.0/echo {}", "Unimplemented NotExecuted no such service here: test.Probe:2.0/echo"),
        ("- test.Probe:1.0/echo {}", "InvalidArgument NotExecuted"),
        ("- test.Probe:1.0/echo x", "InvalidArgument NotExecuted"),
        (r#"key=1 test.Probe:1.0/echo {"text":""}"#, "Unimplemented NotExecuted"),
        (r#"ms=20 test.Probe:1.0/hold {"key":1}"#, "DeadlineExceeded Answered"),
        (r#"- test.Probe:1.0/panic {"at_once":true}"#, "Internal Answered"),
    ] {
        let answer = one.call(call).await;
        assert!(answer.starts_with(expected), "{call}: {answer}");
    }
    let mut other = LineCaller::connect(&serving).await;
    other.send(r#"- test.Probe:1.0/hold {"key":2}"#).await;
    probe.until(Event::Began(2)).await;
    let rejected = one.call(r#"- test.Probe:1.0/hold {"key":3}"#).await;
    assert!(rejected.starts_with("ResourceExhausted NotExecuted") && rejected.contains("max_running"), "{rejected}");
    drop(other);
    probe.until(Event::Dropped(2)).await;
    let counts = serving.handle().counts();
    assert_eq!((counts.unknown, counts.overloaded), (3, 1), "{counts:?}");
}

#[tokio::test]
async fn once_call_of_an_endpoint_executes_once() {
    let probe = Probe::default();
    let serving = Serving::start(lines(&probe)).await;
    let mut one = LineCaller::connect(&serving).await;
    one.send(r#"key=7 test.Probe:1.0/hold_once {"key":1}"#).await;
    probe.until(Event::Began(1)).await;
    let mut other = LineCaller::connect(&serving).await;
    other.send(r#"key=7 test.Probe:1.0/hold_once {"key":1}"#).await;
    drop(one);
    probe.release_all();
    assert_eq!(other.receive().await, ["ok 1"]);
    assert_eq!(other.call(r#"key=7 test.Probe:1.0/hold_once {"key":1}"#).await, "ok 1");
    assert_eq!(probe.count(|event| *event == Event::Began(1)), 1);
}

#[tokio::test]
async fn endpoint_sends_and_receives_streams() {
    let serving = Serving::start(lines(&Probe::default())).await;
    let mut one = LineCaller::connect(&serving).await;
    assert_eq!(one.call(r#"- test.Texts:1.0/count {"to":3}"#).await, "item 1; item 2; item 3; ok");
    assert_eq!(one.call("items=1+2+4 test.Texts:1.0/sum {}").await, "ok 7");
    assert_eq!(one.call("items=1+2 test.Texts:1.0/double {}").await, "item 2; item 4; ok");
    let many = one.call(r#"- test.Texts:1.0/count {"to":50000}"#).await;
    assert!(many.ends_with("item 50000; ok"), "more than the window of a stream");
    assert!(one.call("- test.Texts:1.0/sum {}").await.starts_with("InvalidArgument NotExecuted"));
    serving.until_counted(|counts| counts.streams == 0).await;
}

/// Rejects the calls of one method.
struct Denied;

impl ServerLayer for Denied {
    async fn serve(&self, arrival: &IncomingCall, next: ServerNext<'_>) -> Served {
        if arrival.method().name() == "again" {
            return next.reject(rpc_core::Status::permission_denied("the layer denies it"));
        }
        next.run().await
    }
}

#[tokio::test]
async fn layers_rules_and_tokens_apply_to_endpoints() {
    let probe = Probe::default();
    let tokens = Tokens::new().with("ann", "a long secret of ann's".replace(' ', "-")).unwrap();
    let tokens = tokens.with("bob", "a-long-secret-of-bob's").unwrap();
    let builder = lines(&probe).require_token(tokens).allow("test.Probe:1.0/echo", ["ann"]).layer(Denied);
    let serving = Serving::start(builder).await;
    let mut one = LineCaller::connect(&serving).await;
    let ann = "token=a-long-secret-of-ann's";
    let bob = "token=a-long-secret-of-bob's";
    for (call, expected) in [
        (r#"- test.Probe:1.0/echo {"text":"a"}"#.to_owned(), "Unauthenticated NotExecuted"),
        (r#"token=a-long-secret-of-eve's test.Probe:1.0/echo {"text":"a"}"#.to_owned(), "Unauthenticated NotExecuted"),
        (format!(r#"{ann} test.Probe:1.0/echo {{"text":"a"}}"#), r#"ok "a""#),
        (format!(r#"{bob} test.Probe:1.0/echo {{"text":"a"}}"#), "PermissionDenied NotExecuted"),
        (format!(r#"{bob} test.Probe:1.0/again {{"text":"a"}}"#), "PermissionDenied NotExecuted"),
    ] {
        let answer = one.call(&call).await;
        assert!(answer.starts_with(expected), "{call}: {answer}");
    }
    assert!(one.call(&format!("{ann} test.Probe:1.0/context {{}}")).await.contains(r#""identity":"ann""#));
    assert_eq!(serving.handle().counts().denied, 1);
    // A caller of msnb that waits for the challenge receives it.
    let mut silent = TcpStream::connect(serving.address()).await.unwrap();
    let mut first = [0; 4];
    in_time(tokio::io::AsyncReadExt::read_exact(&mut silent, &mut first)).await.unwrap();
    assert_eq!(&first, b"msnb");
}

#[tokio::test]
async fn endpoint_is_found_by_alpn_or_first_bytes() {
    let (probe, authority) = (Probe::default(), Authority::new());
    let serving = Serving::start(lines(&probe).tls(authority.issue("server", &["127.0.0.1"]).server())).await;
    for alpn in [&["lines"][..], &[]] {
        let stream = authority.connect(TcpStream::connect(serving.address()).await.unwrap(), alpn).await.unwrap();
        let mut one = LineCaller(BufReader::new(stream));
        assert_eq!(one.call(r#"- test.Probe:1.0/echo {"text":"b"}"#).await, r#"ok "b""#, "{alpn:?}");
    }
    let client = rpc_client::Client::builder().tls(rpc_core::tls::ClientTls::new(authority.ca()));
    let msnb = ProbingClient::new(client.config(tests::patient()).build().unwrap());
    assert_eq!(msnb.echo("a".into()).address(serving.address()).await.unwrap(), "a");
    let other = authority.connect(TcpStream::connect(serving.address()).await.unwrap(), &["h3"]).await;
    assert!(other.is_err(), "no protocol in common");
}

#[tokio::test]
async fn drain_ends_idle_endpoint_connections_and_finishes_calls() {
    let probe = Probe::default();
    let mut serving = Serving::start(lines(&probe)).await;
    let (mut idle, mut busy) = (LineCaller::connect(&serving).await, LineCaller::connect(&serving).await);
    assert_eq!(idle.call(r#"- test.Probe:1.0/echo {"text":"b"}"#).await, r#"ok "b""#);
    let mut silent = TcpStream::connect(serving.address()).await.unwrap();
    busy.send(r#"- test.Probe:1.0/hold {"key":2}"#).await;
    probe.until(Event::Began(2)).await;
    serving.stop();
    assert!(idle.receive().await.is_empty(), "the connection has ended");
    probe.release_all();
    assert_eq!(busy.receive().await, ["ok 2"]);
    serving.ended().await.unwrap();
    let mut rest = Vec::new();
    in_time(tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest)).await.unwrap();
    assert!(rest.starts_with(b"msnb"), "a connection without bytes receives GOAWAY");
}

#[tokio::test]
async fn drain_timeout_ends_endpoint_calls() {
    let probe = Probe::default();
    let config = ServerConfig::default().with_drain_timeout(Duration::from_millis(100));
    let mut serving = Serving::start(lines(&probe).config(config)).await;
    let mut busy = LineCaller::connect(&serving).await;
    busy.send(r#"- test.Probe:1.0/hold {"key":2}"#).await;
    probe.until(Event::Began(2)).await;
    serving.stop();
    serving.ended().await.unwrap();
    probe.until(Event::Dropped(2)).await;
}

#[tokio::test]
async fn endpoint_name_is_registered_without_a_version() {
    let registry = Arc::new(Memory::named("endpoint names"));
    let probe = Probe::default();
    let builder = Server::builder().service(probe.server()).registry(registry.clone());
    let mut serving = Serving::start(builder.endpoint(Lines { name: Some("texts"), ..Lines::default() })).await;
    let name = ServiceId::unversioned("texts").unwrap();
    let mut listed = registry.watch(&name);
    let listed =
        in_time(listed.wait_for(|list| list.as_ref().is_some_and(|list| !list.is_empty()))).await.unwrap().clone();
    let [instance] = &listed.unwrap()[..] else { panic!("one instance") };
    assert_eq!(instance.address(), serving.address());
    assert_eq!(instance.metadata().get("protocol"), None);
    assert_eq!(registry.watch(&PROBE).borrow().as_ref().map(|list| list.len()), Some(1));
    serving.stop();
    serving.ended().await.unwrap();
    let mut gone = registry.watch(&name);
    in_time(gone.wait_for(|list| list.as_ref().is_some_and(|list| list.is_empty()))).await.unwrap();
}
