//! Registrations end with their server, however it ends.

use std::{collections::BTreeSet, net::SocketAddr, pin::pin, sync::Arc};

use rpc_core::{BoxFuture, Code, Error, Instance, RegisterOutcome, Registry, ServiceId, rpc_service};
use rpc_server::{Server, ServerBuilder};
use tests::{Task, in_time, probe::Probe, serving::PROBE};
use tokio::sync::watch;

#[rpc_service(name = "test.Rejected", version = "1.0")]
trait Rejected {
    async fn nothing(&self);
}

struct Nothing;

impl Rejected for Nothing {
    async fn nothing(&self) {}
}

/// A registry that rejects `test.Rejected` once it has another entry.
#[derive(Clone, Default)]
struct Picky(watch::Sender<BTreeSet<(String, SocketAddr)>>);

impl Registry for Picky {
    fn register<'a>(
        &'a self,
        service: &'a ServiceId,
        instance: Instance,
    ) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            if *service == PROBE {
                self.0.send_modify(|entries| _ = entries.insert((service.to_string(), instance.address())));
                return Ok(RegisterOutcome::Confirmed);
            }
            self.until(1).await;
            Err(Error::not_executed(Code::PermissionDenied, "the registry rejects this service"))
        })
    }

    fn deregister<'a>(&'a self, service: &'a ServiceId, address: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.0.send_modify(|entries| _ = entries.remove(&(service.to_string(), address)));
            Ok(())
        })
    }
}

impl Picky {
    /// Waits until the registry has `count` entries.
    async fn until(&self, count: usize) {
        drop(in_time(self.0.subscribe().wait_for(|entries| entries.len() == count)).await.unwrap());
    }
}

/// A registry that records the kind of each change.
#[derive(Clone, Default)]
struct Journal(watch::Sender<Vec<&'static str>>);

impl Registry for Journal {
    fn register<'a>(&'a self, _: &'a ServiceId, _: Instance) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        Box::pin(async move {
            self.0.send_modify(|changes| changes.push("register"));
            Ok(RegisterOutcome::Confirmed)
        })
    }

    fn deregister<'a>(&'a self, _: &'a ServiceId, _: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.0.send_modify(|changes| changes.push("deregister"));
            Ok(())
        })
    }
}

impl Journal {
    /// Waits until the registry has recorded `count` changes.
    async fn until(&self, count: usize) {
        drop(in_time(self.0.subscribe().wait_for(|changes| changes.len() == count)).await.unwrap());
    }
}

fn server(registry: &Picky) -> ServerBuilder {
    Server::builder().service(Probe::default().server()).registry(Arc::new(registry.clone()))
}

#[tokio::test]
async fn rejected_service_deregisters_the_others() {
    let registry = Picky::default();
    let server = server(&registry).service(RejectedServer::new(Nothing)).bind("127.0.0.1:0").await.unwrap();
    let error = in_time(server.run()).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(registry.0.borrow().len(), 0, "{:?}", registry.0.borrow());
}

#[tokio::test]
async fn aborted_server_deregisters() {
    let registry = Picky::default();
    let running = Task::begin(server(&registry).bind("127.0.0.1:0").await.unwrap().run());
    registry.until(1).await;
    running.abort().await;
    registry.until(0).await;
}

#[tokio::test]
async fn panicking_server_deregisters() {
    let registry = Picky::default();
    let until_listed = {
        let registry = registry.clone();
        async move {
            registry.until(1).await;
            panic!("intended panic of the shutdown");
        }
    };
    let server = server(&registry).bind("127.0.0.1:0").await.unwrap();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(server.run_until(until_listed));
    assert!(in_time(running.join_next()).await.unwrap().unwrap_err().is_panic());
    registry.until(0).await;
}

#[tokio::test]
async fn successor_registers_after_its_predecessor_ended() {
    let registry = Journal::default();
    let server = || Server::builder().service(Probe::default().server()).registry(Arc::new(registry.clone()));
    let first = server().bind("127.0.0.1:0").await.unwrap();
    let address = first.local_address();
    // The same task drops the first server and runs the second one, as a program does that reloads its configuration.
    {
        let running = pin!(first.run());
        tokio::select! {
            ended = running => panic!("the server ended: {ended:?}"),
            () = registry.until(1) => {}
        }
    }
    let running = pin!(server().bind(address).await.unwrap().run());
    tokio::select! {
        biased;
        ended = running => panic!("the server ended: {ended:?}"),
        () = registry.until(3) => {}
    }
    assert_eq!(*registry.0.borrow(), ["register", "deregister", "register"]);
}
