//! [`Edges`]: nodes of this process with the ports for clients, and [`Visitor`]: a client that says what it likes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::{SinkExt as _, StreamExt as _};
use rpc_im::{
    Node, NodeConfig, NodeId,
    auth::{Accounts, Secret},
    client::login,
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

/// Nodes of this process that clients can connect to. Everything of it panics when it fails.
pub struct Edges {
    /// In the order in which they were started.
    pub edges: Vec<OneEdge>,
}

/// A node, and its port for clients.
pub struct OneEdge {
    /// The node.
    pub node: Arc<Node>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: Task<()>,
}

/// What comes to a client.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// A frame.
    Frame(ServerFrame),
    /// The node has said goodbye.
    Closed(CloseCode, String),
    /// The connection is over, without a goodbye.
    Gone,
}

/// A client on one WebSocket, which does nothing by itself.
pub struct Visitor {
    socket: WebSocketStream<TcpStream>,
    encoding: Encoding,
}

impl Edges {
    /// So many nodes that know each other, where anybody may be anybody.
    pub async fn start(count: usize, config: EdgeConfig) -> Self {
        Self::start_with(count, config, || Accounts::Anyone, |node| node).await
    }

    /// The same with other accounts and other nodes.
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
        let mut edges = Vec::new();
        for number in 1..=count {
            let edge = Edge::bind(([127, 0, 0, 1], 0).into(), config.clone()).await.expect("a port is free");
            let address = edge.local_address().expect("it is bound");
            let node = NodeConfig::new(Arc::clone(&registry), format!("ws://{address}/ws"))
                .with_id(u16::try_from(number).ok().and_then(NodeId::new));
            let node = Arc::new(Node::start(configure(node)).await.expect("the node starts"));
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = edge.run_until(Arc::clone(&node), secret.clone(), accounts(), async {
                // Dropped, it says the same.
                let _ = stopped.await;
            });
            edges.push(OneEdge { node, address, stop, serving: Task::begin(serving) });
        }
        for edge in &edges {
            until(|| edge.node.is_ready() && edge.node.nodes().len() == count).await;
        }
        Self { edges }
    }

    /// Where clients find a node: `http://host:port`.
    pub fn base(&self, number: usize) -> String {
        format!("http://{}", self.edges[number].address)
    }

    /// A token of a user's device.
    pub async fn token(&self, user: &str, device: &str) -> String {
        login(&self.base(0), user, "", device, "test").await.expect("anybody may be anybody").token
    }

    /// A WebSocket on which nothing was said yet.
    pub async fn visit(&self, number: usize, encoding: Encoding) -> Visitor {
        let stream = self.connect(number).await;
        let path = format!("ws://{}/ws", self.edges[number].address);
        Visitor::begin(stream, &path, Some(encoding)).await.expect("the node takes WebSockets")
    }

    /// A user's session.
    pub async fn enter(&self, number: usize, user: &str) -> Visitor {
        let mut visitor = self.visit(number, Encoding::Json).await;
        visitor.log_in(self.token(user, "device").await).await;
        visitor
    }

    /// A user whose side of the connection takes next to nothing while nobody reads.
    pub async fn enter_narrow(&self, number: usize, user: &str) -> Visitor {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(4096).expect("it can be small");
        let stream = socket.connect(self.edges[number].address).await.expect("the node listens");
        let path = format!("ws://{}/ws", self.edges[number].address);
        let mut visitor = Visitor::begin(stream, &path, Some(Encoding::Json)).await.expect("the node takes WebSockets");
        visitor.log_in(self.token(user, "device").await).await;
        visitor
    }

    /// Opens a side of a pairing room.
    ///
    /// # Errors
    ///
    /// When the node refuses.
    pub async fn room(&self, number: usize, query: &str) -> Result<Visitor, tungstenite::Error> {
        let path = format!("ws://{}/channel?{query}", self.edges[number].address);
        Visitor::begin(self.connect(number).await, &path, None).await
    }

    /// A connection on which nothing was said yet.
    pub async fn connect(&self, number: usize) -> TcpStream {
        TcpStream::connect(self.edges[number].address).await.expect("the node listens")
    }

    /// All that a node answers to these bytes until it closes, as text.
    pub async fn answer(&self, number: usize, request: &[u8]) -> String {
        let mut stream = self.connect(number).await;
        let mut answer = Vec::new();
        in_time(async {
            // One that was refused half-way is not taken to its end.
            let _ = stream.write_all(request).await;
            let _ = stream.read_to_end(&mut answer).await;
        })
        .await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The answer to `GET`.
    pub async fn get(&self, number: usize, path: &str) -> String {
        self.answer(number, format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    /// The number that a node has under this name in its metrics.
    pub async fn metric(&self, number: usize, name: &str) -> u64 {
        metric(&self.get(number, "/metrics").await, name)
    }

    /// Waits until a node has counted so many.
    pub async fn until_metric(&self, number: usize, name: &str, value: u64) {
        in_time(async {
            while self.metric(number, name).await != value {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl OneEdge {
    /// Asks it to leave in order.
    pub fn stop(self) -> Task<()> {
        // One that has ended by itself needs no word.
        let _ = self.stop.send(());
        self.serving
    }
}

impl Visitor {
    async fn begin(stream: TcpStream, url: &str, encoding: Option<Encoding>) -> Result<Self, tungstenite::Error> {
        let mut request = url.into_client_request()?;
        if let Some(encoding) = encoding {
            let protocol = HeaderValue::from_static(encoding.subprotocol());
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let (socket, _) = in_time(client_async(request, stream)).await?;
        Ok(Self { socket, encoding: encoding.unwrap_or(Encoding::Json) })
    }

    /// Presents a token, and is let in.
    pub async fn log_in(&mut self, token: String) {
        self.say(ClientFrame::Auth(Auth { token })).await;
        match self.hear().await {
            Heard::Frame(ServerFrame::AuthOk(_)) => {}
            other => panic!("a login is answered by {other:?}"),
        }
    }

    /// Says a frame.
    pub async fn say(&mut self, frame: ClientFrame) {
        let message = match self.encoding {
            Encoding::Json => Message::text(frame.to_json()),
            Encoding::Protobuf => Message::binary(frame.to_protobuf()),
        };
        self.send(message).await;
    }

    /// Sends a message, whatever it is. That the node has closed already shows in what is heard next.
    pub async fn send(&mut self, message: Message) {
        let _ = in_time(self.socket.send(message)).await;
    }

    /// Writes bytes past the WebSocket.
    pub async fn write_raw(&mut self, bytes: &[u8]) {
        let _ = in_time(self.socket.get_mut().write_all(bytes)).await;
    }

    /// What comes next.
    pub async fn hear(&mut self) -> Heard {
        loop {
            return match in_time(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => Heard::Frame(ServerFrame::from_json(&text).expect("a node's frame")),
                Some(Ok(Message::Binary(bytes))) => {
                    Heard::Frame(ServerFrame::from_protobuf(&bytes).expect("a node's frame"))
                }
                Some(Ok(Message::Close(Some(frame)))) => Heard::Closed(frame.code, frame.reason.to_string()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => Heard::Gone,
                Some(Ok(_)) => continue,
            };
        }
    }

    /// The next binary message, in a room.
    pub async fn bytes(&mut self) -> Vec<u8> {
        match in_time(self.socket.next()).await {
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            other => panic!("{other:?} instead of bytes"),
        }
    }

    /// The next frame that is one of those meant; what comes before is passed over.
    pub async fn until<T>(&mut self, meant: impl Fn(&ServerFrame) -> Option<T>) -> T {
        loop {
            match self.hear().await {
                Heard::Frame(frame) => {
                    if let Some(found) = meant(&frame) {
                        return found;
                    }
                }
                other => panic!("{other:?} instead of a frame"),
            }
        }
    }

    /// The code of the next error.
    pub async fn error(&mut self) -> String {
        self.until(|frame| if let ServerFrame::Error(error) = frame { Some(error.code.clone()) } else { None }).await
    }

    /// How it ends, whatever is said before.
    pub async fn end(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Heard::Frame(_) => {}
                end => return end,
            }
        }
    }
}

/// The number that a node's metrics have under this name.
///
/// # Panics
///
/// Where there is none.
pub(crate) fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let value = line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}
