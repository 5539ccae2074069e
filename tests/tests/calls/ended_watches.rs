//! Registries that drop the sender of a service, as when the runtime of their tasks ends.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_client::{Client, ClientConfig};
use rpc_core::{Addresses, Discovery, Instance, ServiceId};
use rpc_server::Server;
use tests::{
    pipes::{PIPE, pipes},
    probe::{Probe, ProbingClient},
    serving::{PROBE, Serving},
};
use tokio::{sync::watch, time::sleep};

type Sender = watch::Sender<Option<Arc<[Instance]>>>;

/// A registry whose sender a test replaces.
#[derive(Debug)]
struct Replaced {
    sender: Mutex<Sender>,
    watches: AtomicUsize,
}

impl Replaced {
    /// Drops the sender in favor of one with this list.
    fn replace(&self, list: Option<&[SocketAddr]>) {
        *self.sender.lock().unwrap() = watch::Sender::new(list.map(instances));
    }
}

impl Discovery for Replaced {
    fn watch(&self, _: &ServiceId) -> Addresses {
        self.watches.fetch_add(1, Ordering::SeqCst);
        self.sender.lock().unwrap().subscribe()
    }

    fn url(&self) -> &str {
        "test://replaced"
    }
}

fn instances(addresses: &[SocketAddr]) -> Arc<[Instance]> {
    addresses.iter().copied().map(Instance::new).collect()
}

#[tokio::test(start_paused = true)]
async fn client_watches_again_after_a_dropped_sender() {
    let (pipes, listener) = pipes();
    let _serving = Serving::listen(Server::builder().service(Probe::default().server()), listener).await;
    let sender = watch::Sender::new(Some(instances(&[PIPE])));
    let registry = Arc::new(Replaced { sender: Mutex::new(sender), watches: AtomicUsize::new(0) });
    let config = ClientConfig::default().with_cache_directory(None);
    let builder = Client::builder().registry(Arc::clone(&registry) as _).connector(pipes).config(config);
    let client = builder.build().unwrap();
    let probing = ProbingClient::new(client.clone());
    assert_eq!(probing.echo("first".to_owned()).await.unwrap(), "first");

    // The client keeps its list while the next sender has none.
    registry.replace(None);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(registry.watches.load(Ordering::SeqCst), 2);
    assert_eq!(probing.echo("kept".to_owned()).await.unwrap(), "kept");

    // It uses the list of the next sender.
    let other = SocketAddr::from(([127, 0, 0, 1], 7789));
    registry.replace(Some(&[PIPE, other]));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(registry.watches.load(Ordering::SeqCst), 3);
    let explanation = client.explain(&PROBE).to_string();
    assert!(explanation.contains("7789"), "{explanation}");
    registry.sender.lock().unwrap().send_replace(Some(instances(&[PIPE])));
    assert_eq!(probing.echo("last".to_owned()).await.unwrap(), "last");
}
