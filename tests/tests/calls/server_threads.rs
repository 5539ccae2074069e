//! Servers that serve their connections on several threads: `ServerBuilder::threads`.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, thread};

use rpc_client::Client;
use rpc_core::{
    BoxFuture, Code, Peer, rpc_service,
    transport::{Accept, Io},
};
use rpc_server::{Server, ServerBuilder};
use tests::{
    Task, in_time,
    probe::{Event, Probe, ProbingClient},
    serving::Serving,
};
use tokio::{
    net::TcpListener,
    runtime::{Handle, RuntimeFlavor},
    sync::{Barrier, watch},
    task::yield_now,
};

use crate::caller;

#[rpc_service(name = "test.Threads", version = "1.0")]
trait Threads {
    /// Returns the names of the threads that polled the handler: in its first poll and in a later one.
    async fn names(&self) -> [String; 2];

    /// Waits for the other callers, and returns the name of the thread.
    async fn meet(&self) -> String;
}

struct Named(Arc<Barrier>);

impl Threads for Named {
    async fn names(&self) -> [String; 2] {
        let first = name();
        yield_now().await;
        [first, name()]
    }

    async fn meet(&self) -> String {
        self.0.wait().await;
        name()
    }
}

fn name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

fn server(callers: usize) -> ServerBuilder {
    Server::builder().service(ThreadsServer::new(Named(Arc::new(Barrier::new(callers))))).threads(2)
}

#[tokio::test]
async fn connections_are_distributed_and_stay_on_their_thread() {
    let serving = Serving::start(server(1)).await;
    let clients: Vec<ThreadsClient<Client>> = (0..6).map(|_| ThreadsClient::new(caller())).collect();
    let mut connections = BTreeMap::<_, usize>::new();
    for client in &clients {
        let [thread, later] = client.names().address(serving.address()).await.unwrap();
        assert_eq!(thread, later);
        for _ in 0..10 {
            assert_eq!(client.names().address(serving.address()).await.unwrap(), [thread.clone(), later.clone()]);
        }
        *connections.entry(thread).or_default() += 1;
    }
    let names = ["msnb-server-0", "msnb-server-1"].map(|name| (name.to_owned(), 3));
    assert_eq!(connections, BTreeMap::from(names));

    // The next connections go to the thread that lost some.
    let kept = clients.into_iter().step_by(2).collect::<Vec<_>>();
    serving.until_counted(|counts| counts.connections == kept.len()).await;
    let other = ThreadsClient::new(caller());
    let [thread, _] = other.names().address(serving.address()).await.unwrap();
    assert_eq!(thread, "msnb-server-1");
}

#[tokio::test]
async fn threads_run_at_the_same_time() {
    let serving = Serving::start(server(2)).await;
    let clients = [caller(), caller()].map(ThreadsClient::new);
    let [first, second] = &clients;
    let both =
        async { tokio::join!(first.meet().address(serving.address()), second.meet().address(serving.address())) };
    let (first, second) = in_time(both).await;
    assert_ne!(first.unwrap(), second.unwrap());
}

/// A listener that records the flavor of the runtime for which it accepts connections.
struct Recording {
    listener: TcpListener,
    flavors: watch::Sender<Vec<RuntimeFlavor>>,
}

impl Accept for Recording {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, Peer)>> {
        Box::pin(async {
            let accepted = Accept::accept(&self.listener).await;
            self.flavors.send_modify(|flavors| flavors.push(Handle::current().runtime_flavor()));
            accepted
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A socket belongs to the runtime in whose context it is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_belong_to_the_runtimes_of_threads() {
    let flavors = watch::Sender::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = Serving::listen(server(1), Recording { listener, flavors: flavors.clone() }).await;
    let clients = [caller(), caller()].map(ThreadsClient::new);
    for client in &clients {
        client.names().address(serving.address()).await.unwrap();
    }
    assert_eq!(*flavors.borrow(), [const { RuntimeFlavor::CurrentThread }; 2]);
}

#[tokio::test]
async fn drain_waits_for_handlers_on_threads() {
    let probe = Probe::default();
    let mut serving = Serving::start(Server::builder().service(probe.server()).threads(2)).await;
    let client = ProbingClient::new(caller());
    let held = Task::begin(client.hold(7).address(serving.address()));
    probe.until(Event::Began(7)).await;
    serving.stop();
    probe.release(7);
    assert_eq!(held.end().await.unwrap(), 7);
    serving.ended().await.unwrap();
}

#[tokio::test]
async fn killed_server_drops_handlers_on_threads() {
    let probe = Probe::default();
    let serving = Serving::start(Server::builder().service(probe.server()).threads(2)).await;
    let client = ProbingClient::new(caller());
    let held = Task::begin(client.hold(7).address(serving.address()));
    probe.until(Event::Began(7)).await;
    serving.kill().await;
    probe.until(Event::Dropped(7)).await;
    held.end().await.unwrap_err();
}

#[tokio::test]
async fn number_of_threads_is_limited() {
    let builder = || server(1).threads(ServerBuilder::MAX_THREADS + 1);
    let error = builder().bind("127.0.0.1:0").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("ServerBuilder::threads"), "{error}");
}
