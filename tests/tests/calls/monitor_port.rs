//! The monitor port: slow clients, connections by address, checks of the program.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rpc_layers::{Metrics, MonitorPort};
use rpc_server::{Server, ServerConfig};
use tests::{Task, in_time, probe::Probe, serving::Serving};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::Notify,
};

/// Returns a monitor port whose server serves.
async fn serving() -> (Serving, MonitorPort) {
    let metrics = Metrics::new();
    let serving = Serving::probe(&Probe::default(), ServerConfig::default()).await;
    metrics.watch_server(serving.handle().clone());
    let port = MonitorPort::bind("127.0.0.1:0", metrics).await.unwrap();
    (serving, port)
}

/// Connects from 127.0.0.`host`, and sends the beginning of a head.
async fn slow_client(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
    let mut stream = in_time(socket.connect(to)).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    stream
}

/// Returns the status and the body of `/health`.
async fn health(port: SocketAddr) -> (String, String) {
    let mut stream = in_time(TcpStream::connect(port)).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

/// Returns whether the port has neither answered nor closed the connection.
fn is_open(stream: TcpStream) -> bool {
    let peeked = stream.into_std().unwrap().peek(&mut [0]);
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[tokio::test]
async fn health_is_answered_beside_200_slow_clients() {
    let (_serving, port) = serving().await;
    let mut slow = Vec::new();
    for number in 0..200 {
        slow.push(slow_client(2 + number % 100, port.local_address()).await);
    }
    assert_eq!(health(port.local_address()).await, ("200".to_owned(), "serving\n".to_owned()));
    // They were displaced, and have not merely timed out.
    assert!(is_open(slow.pop().unwrap()), "the newest slow client is still connected");
}

#[tokio::test]
async fn address_displaces_its_own_connections_first() {
    let (_serving, port) = serving().await;
    let other = slow_client(2, port.local_address()).await;
    let mut first = slow_client(3, port.local_address()).await;
    let mut same = Vec::new();
    for _ in 0..MonitorPort::MAX_CONNECTIONS_PER_ADDRESS {
        same.push(slow_client(3, port.local_address()).await);
    }
    in_time(first.read_u8()).await.expect_err("the oldest connection of the same address is closed");
    assert!(is_open(other), "a connection of another address");
}

#[tokio::test]
async fn slow_connection_ends_after_its_time() {
    let (_serving, port) = serving().await;
    let mut slow = slow_client(2, port.local_address()).await;
    in_time(slow.read_u8()).await.expect_err("the connection is closed without an answer");
}

#[tokio::test]
async fn health_reports_failed_checks() {
    let (_serving, port) = serving().await;
    let turn = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turn);
    port.add_check("good", || async { Ok::<_, String>(()) });
    port.add_check("store", move || {
        let turn = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match turn {
                0 => Err("the disk is full"),
                1 => panic!("intended panic in a check"),
                2 => std::future::pending().await,
                _ => Ok(()),
            }
        }
    });
    for expected in [
        "store: the disk is full\n",
        "store: the check panicked\n",
        "store: no result within 2s (MonitorPort::CHECK_TIME)\n",
    ] {
        assert_eq!(health(port.local_address()).await, ("503".to_owned(), expected.to_owned()));
        expire_results().await;
    }
    assert_eq!(health(port.local_address()).await, ("200".to_owned(), "serving\n".to_owned()));
    assert_eq!(turn.load(Ordering::Relaxed), 4, "each request executes the check once");
}

/// Lets the time pass after which `/health` executes its checks again.
async fn expire_results() {
    tokio::time::pause();
    tokio::time::advance(MonitorPort::CHECK_VALIDITY).await;
    tokio::time::resume();
}

#[tokio::test]
async fn requests_share_an_execution_of_the_checks() {
    let (_serving, port) = serving().await;
    let (executions, release) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let of_check = (Arc::clone(&executions), Arc::clone(&release));
    port.add_check("store", move || {
        of_check.0.fetch_add(1, Ordering::Relaxed);
        let release = Arc::clone(&of_check.1);
        async move {
            release.notified().await;
            Ok::<_, String>(())
        }
    });
    let until_executed = async |count| {
        in_time(async {
            while executions.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    // A client that leaves does not end the execution.
    let left = Task::begin(health(port.local_address()));
    until_executed(1).await;
    drop(left);
    let requests: Vec<_> = (0..8).map(|_| Task::begin(health(port.local_address()))).collect();
    release.notify_one();
    for request in requests {
        assert_eq!(request.end().await, ("200".to_owned(), "serving\n".to_owned()));
    }
    assert_eq!(executions.load(Ordering::Relaxed), 1, "a request during the execution or soon after it shares it");
    expire_results().await;
    let next = Task::begin(health(port.local_address()));
    until_executed(2).await;
    release.notify_one();
    assert_eq!(next.end().await.0, "200");
}

#[tokio::test]
async fn added_check_is_executed_by_the_next_request() {
    let (_serving, port) = serving().await;
    assert_eq!(health(port.local_address()).await.0, "200");
    port.add_check("store", || async { Err::<(), _>("the disk is full") });
    assert_eq!(health(port.local_address()).await.1, "store: the disk is full\n");
}

#[tokio::test]
async fn health_reports_server_that_was_dropped() {
    let (serving, port) = serving().await;
    in_time(async { while health(port.local_address()).await.0 != "200" {} }).await;
    serving.kill().await;
    assert_eq!(health(port.local_address()).await, ("503".to_owned(), "ended\n".to_owned()));
    // A server that was bound and never served.
    let metrics = Metrics::new();
    let server = Server::builder().service(Probe::default().server()).bind("127.0.0.1:0").await.unwrap();
    metrics.watch_server(server.handle());
    drop(server);
    let port = MonitorPort::bind("127.0.0.1:0", metrics).await.unwrap();
    assert_eq!(health(port.local_address()).await.0, "503");
}

#[tokio::test]
async fn health_notices_a_shutdown_during_its_checks() {
    let (mut serving, port) = serving().await;
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let of_check = (Arc::clone(&entered), Arc::clone(&release));
    port.add_check("store", move || {
        let (entered, release) = (Arc::clone(&of_check.0), Arc::clone(&of_check.1));
        async move {
            entered.notify_one();
            release.notified().await;
            Ok::<_, String>(())
        }
    });
    let shut_down = async {
        entered.notified().await;
        serving.stop();
        serving.ended().await.unwrap();
        release.notify_one();
    };
    let (answered, ()) = in_time(async { tokio::join!(health(port.local_address()), shut_down) }).await;
    assert_eq!(answered, ("503".to_owned(), "ended\n".to_owned()));
}
