//! [`Edges`]: IM nodes in this process with their client ports, and [`RawClient`]: a client that sends arbitrary bytes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::{SinkExt as _, StreamExt as _};
use rpc_im::{
    Node, NodeConfig, StoreChoice,
    auth::{Accounts, Secret},
    client::{LoggedIn, login},
    edge::{Edge, EdgeConfig},
    envelope::{Auth, ClientFrame, Encoding, ServerFrame},
};
use rpc_registry::{Backend, Memory};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::frame::coding::CloseCode,
    },
};

use crate::{Task, im::until, in_time};

/// IM nodes in this process with their client ports. All methods panic on failure.
pub struct Edges {
    /// The nodes, in the order in which they were started.
    pub edges: Vec<EdgeNode>,
}

/// A node with its client port.
pub struct EdgeNode {
    /// The node.
    pub node: Arc<Node>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: Task<()>,
}

/// An event of a [`RawClient`].
#[derive(Debug, PartialEq)]
pub enum Received {
    /// A frame.
    Frame(ServerFrame),
    /// A close frame, with its code and reason.
    Closed(CloseCode, String),
    /// The end of the connection without a close frame.
    Disconnected,
}

/// A WebSocket connection that sends nothing by itself.
pub struct RawClient {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
}

impl Edges {
    /// Starts `count` nodes that accept any user with any password.
    pub async fn start(count: usize, config: EdgeConfig) -> Self {
        Self::start_with(count, config, || Accounts::Anyone, |node| node).await
    }

    /// Starts `count` nodes with other accounts and node configurations.
    pub async fn start_with(
        count: usize,
        config: EdgeConfig,
        accounts: impl Fn() -> Accounts,
        configure: impl Fn(NodeConfig) -> NodeConfig,
    ) -> Self {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let name = format!("edges-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let registry: Arc<dyn Backend> = Arc::new(Memory::named(&name));
        let secret = Secret::random();
        let mut edges = Vec::<EdgeNode>::new();
        for number in 1..=count {
            let edge = Edge::bind(([127, 0, 0, 1], 0).into(), config.clone()).await.expect("a port is free");
            let address = edge.local_address().expect("the listener is bound");
            // The first node has the store.
            let store = edges.first().map_or(StoreChoice::Memory, |first| StoreChoice::Node(first.node.rpc_address()));
            let node = NodeConfig::new(Arc::clone(&registry), format!("ws://{address}/ws"))
                .with_name(Some(number.to_string()))
                .with_store(store);
            let node = Arc::new(Node::start(configure(node)).await.expect("the node starts"));
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = edge.run_until(Arc::clone(&node), secret.clone(), accounts(), async {
                // A dropped sender stops the node, too.
                let _ = stopped.await;
            });
            edges.push(EdgeNode { node, address, stop, serving: Task::begin(serving) });
        }
        for edge in &edges {
            until(|| edge.node.is_ready() && edge.node.nodes().len() == count).await;
        }
        Self { edges }
    }

    /// Returns the base URL of a node: `http://host:port`.
    pub fn base(&self, number: usize) -> String {
        format!("http://{}", self.edges[number].address)
    }

    /// Returns a token for a device of a user.
    pub async fn token(&self, user: &str, device: &str) -> String {
        login(&self.base(0), user, "", device, "test").await.expect("the node accepts any user").token
    }

    /// Opens a WebSocket without logging in.
    pub async fn connect_websocket(&self, number: usize, encoding: Encoding) -> RawClient {
        let stream = self.connect(number).await;
        let path = format!("ws://{}/ws", self.edges[number].address);
        RawClient::connect(stream, &path, Some(encoding)).await.expect("the node accepts WebSockets")
    }

    /// Logs a user in.
    pub async fn enter(&self, number: usize, user: &str) -> RawClient {
        let mut client = self.connect_websocket(number, Encoding::Json).await;
        client.log_in(self.token(user, "device").await).await;
        client
    }

    /// Logs a user in on a connection with a receive buffer of 4 KiB: the node's writes stall while the client does not read.
    pub async fn enter_narrow(&self, number: usize, user: &str) -> RawClient {
        let socket = TcpSocket::new_v4().expect("the system provides sockets");
        socket.set_recv_buffer_size(4096).expect("the system accepts a small receive buffer");
        let stream = socket.connect(self.edges[number].address).await.expect("the node listens");
        let path = format!("ws://{}/ws", self.edges[number].address);
        let client = RawClient::connect(stream, &path, Some(Encoding::Json)).await;
        let mut client = client.expect("the node accepts WebSockets");
        client.log_in(self.token(user, "device").await).await;
        client
    }

    /// Opens one side of a pairing room.
    ///
    /// # Errors
    ///
    /// Returns an error if the node rejects the request.
    pub async fn room(&self, number: usize, query: &str) -> Result<RawClient, tungstenite::Error> {
        let path = format!("ws://{}/channel?{query}", self.edges[number].address);
        RawClient::connect(self.connect(number).await, &path, None).await
    }

    /// Opens one side of a pairing room from another loopback address.
    ///
    /// # Errors
    ///
    /// Returns an error if the node rejects the request.
    pub async fn room_from(&self, from: Ipv4Addr, query: &str) -> Result<RawClient, tungstenite::Error> {
        let path = format!("ws://{}/channel?{query}", self.edges[0].address);
        RawClient::connect(self.connect_from(from, 0).await, &path, None).await
    }

    /// Logs a user in from another loopback address.
    pub async fn enter_from(&self, from: Ipv4Addr, user: &str) -> RawClient {
        let answer = self.login_from(from, user, "").await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a response has a head and a body");
        let LoggedIn { token, .. } = serde_json::from_str(body).expect("the node accepts any user");
        let path = format!("ws://{}/ws", self.edges[0].address);
        let client = RawClient::connect(self.connect_from(from, 0).await, &path, Some(Encoding::Json)).await;
        let mut client = client.expect("the node accepts WebSockets");
        client.log_in(token).await;
        client
    }

    /// Opens a TCP connection.
    pub async fn connect(&self, number: usize) -> TcpStream {
        TcpStream::connect(self.edges[number].address).await.expect("the node listens")
    }

    /// Opens a TCP connection from another loopback address.
    pub async fn connect_from(&self, from: Ipv4Addr, number: usize) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("the system provides sockets");
        socket.bind((from, 0).into()).expect("the address is one of loopback");
        socket.connect(self.edges[number].address).await.expect("the node listens")
    }

    /// Sends a login from a loopback address, and returns the response.
    pub async fn login_from(&self, from: Ipv4Addr, user: &str, password: &str) -> String {
        self.login_with(from, user, password, "").await
    }

    /// Sends a login with further header lines from a loopback address, and returns the response.
    pub async fn login_with(&self, from: Ipv4Addr, user: &str, password: &str, headers: &str) -> String {
        let body = format!(r#"{{"user":"{user}","password":"{password}"}}"#);
        let head = format!("POST /login HTTP/1.1\r\nHost: node\r\n{headers}Connection: close\r\nContent-Length");
        let request = format!("{head}: {}\r\n\r\n{body}", body.len());
        answer_on(self.connect_from(from, 0).await, request.as_bytes()).await
    }

    /// Sends bytes to a node, and returns its response until it closes the connection.
    pub async fn answer(&self, number: usize, request: &[u8]) -> String {
        answer_on(self.connect(number).await, request).await
    }

    /// Returns the response to a `GET` request.
    pub async fn get(&self, number: usize, path: &str) -> String {
        self.answer(number, format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    /// Returns the value of a metric of a node.
    pub async fn metric(&self, number: usize, name: &str) -> u64 {
        metric(&self.get(number, "/metrics").await, name)
    }

    /// Waits until a metric of a node has this value.
    pub async fn until_metric(&self, number: usize, name: &str, value: u64) {
        in_time(async {
            while self.metric(number, name).await != value {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl EdgeNode {
    /// Starts to drain the node; the returned task ends with it.
    pub fn stop(self) -> Task<()> {
        // The send fails if the node has ended already.
        let _ = self.stop.send(());
        self.serving
    }
}

impl RawClient {
    async fn connect(stream: TcpStream, url: &str, encoding: Option<Encoding>) -> Result<Self, tungstenite::Error> {
        let mut request = url.into_client_request()?;
        if let Some(encoding) = encoding {
            let protocol = HeaderValue::from_static(encoding.subprotocol());
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let (socket, _) = in_time(client_async(request, stream)).await?;
        Ok(Self { socket, encoding: encoding.unwrap_or(Encoding::Json) })
    }

    /// Logs in with a token; panics if the node rejects it.
    pub async fn log_in(&mut self, token: String) {
        self.send_frame(ClientFrame::Auth(Auth { token })).await;
        match self.receive().await {
            Received::Frame(ServerFrame::AuthOk(_)) => {}
            other => panic!("the node answers the login with {other:?}"),
        }
    }

    /// Sends a frame.
    pub async fn send_frame(&mut self, frame: ClientFrame) {
        let message = match self.encoding {
            Encoding::Json => Message::text(frame.to_json()),
            Encoding::Protobuf => Message::binary(frame.to_protobuf()),
        };
        self.send(message).await;
    }

    /// Sends a WebSocket message. It ignores errors: the next [`receive`](Self::receive) reports a closed connection.
    pub async fn send(&mut self, message: Message) {
        let _ = in_time(self.socket.send(message)).await;
    }

    /// Writes bytes to the TCP connection below the WebSocket.
    pub async fn write_raw(&mut self, bytes: &[u8]) {
        let _ = in_time(self.socket.get_mut().write_all(bytes)).await;
    }

    /// Returns the next event.
    pub async fn receive(&mut self) -> Received {
        loop {
            return match in_time(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    Received::Frame(ServerFrame::from_json(&text).expect("nodes send valid frames"))
                }
                Some(Ok(Message::Binary(bytes))) => {
                    Received::Frame(ServerFrame::from_protobuf(&bytes).expect("nodes send valid frames"))
                }
                Some(Ok(Message::Close(Some(frame)))) => Received::Closed(frame.code, frame.reason.to_string()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => Received::Disconnected,
                Some(Ok(_)) => continue,
            };
        }
    }

    /// Returns the next binary message of a room.
    pub async fn bytes(&mut self) -> Vec<u8> {
        match in_time(self.socket.next()).await {
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            other => panic!("expected a binary message, received {other:?}"),
        }
    }

    /// Skips frames until `select` returns a value.
    pub async fn until<T>(&mut self, select: impl Fn(&ServerFrame) -> Option<T>) -> T {
        loop {
            match self.receive().await {
                Received::Frame(frame) => {
                    if let Some(found) = select(&frame) {
                        return found;
                    }
                }
                other => panic!("expected a frame, received {other:?}"),
            }
        }
    }

    /// Returns the code of the next error frame.
    pub async fn error(&mut self) -> String {
        self.until(|frame| if let ServerFrame::Error(error) = frame { Some(error.code.clone()) } else { None }).await
    }

    /// Skips frames until the connection ends; returns the end.
    pub async fn end(&mut self) -> Received {
        loop {
            match self.receive().await {
                Received::Frame(_) => {}
                end => return end,
            }
        }
    }
}

/// Sends bytes on a connection, and returns the response until the node closes the connection.
async fn answer_on(mut stream: TcpStream, request: &[u8]) -> String {
    let mut answer = Vec::new();
    in_time(async {
        // The node may reject the request and close the connection before it has read all bytes.
        let _ = stream.write_all(request).await;
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns the value of a metric in a node's metrics.
///
/// # Panics
///
/// Panics if the metric is missing.
pub(crate) fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("metric {name} is missing in {text}"))
}
