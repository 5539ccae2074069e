//! Long bytes as parameters, results and fields: every codec and transport carries them, and the server copies none.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
};

use bytes::{Buf, Bytes};
use rpc_client::{Client, ClientBuilder};
use rpc_core::{
    CallError, Codec, Compression, Context, Metadata, Payload, Responder, Service, WriteBuffer,
    frame::{FrameType, Header},
    rpc_service,
    tls::ClientTls,
    transport::{Outbox, WireSink},
};
use rpc_server::{Server, ServerBuilder};
use serde::{Deserialize, Serialize};
use tests::{Task, certificates::Authority, in_time, serving::Serving};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Picture {
    title: String,
    #[serde(with = "rpc_core::uncopied")]
    pixels: Bytes,
}

#[rpc_service(name = "test.Pictures", version = "1.0")]
trait Pictures {
    async fn give(&self, data: Bytes) -> Bytes;
    async fn try_give(&self, before: String, data: bytes::Bytes, fails: bool) -> Result<Bytes, Picture>;
    async fn show(&self, picture: Picture) -> Picture;
}

/// Returns its arguments and stores the last bytes.
#[derive(Debug, Clone, Default)]
struct Gallery {
    last: Arc<Mutex<Option<Bytes>>>,
}

impl Gallery {
    fn last(&self) -> Bytes {
        self.last.lock().unwrap().clone().unwrap()
    }
}

impl Pictures for Gallery {
    async fn give(&self, data: Bytes) -> Bytes {
        *self.last.lock().unwrap() = Some(data.clone());
        data
    }

    async fn try_give(&self, before: String, data: Bytes, fails: bool) -> Result<Bytes, Picture> {
        if fails { Err(Picture { title: before, pixels: data }) } else { Ok(data) }
    }

    async fn show(&self, picture: Picture) -> Picture {
        *self.last.lock().unwrap() = Some(picture.pixels.clone());
        picture
    }
}

/// The length from which bytes are not copied.
const LONG: usize = 16 << 10;

/// Returns pseudo-random bytes, so that the tests detect misplaced ones.
fn data(length: usize) -> Bytes {
    (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

async fn round(server: ServerBuilder, client: ClientBuilder, codecs: &[Codec], compressions: &[Compression]) {
    let serving = Serving::start(server.service(PicturesServer::new(Gallery::default()))).await;
    let (client, address) = (PicturesClient::new(client.build().unwrap()), serving.address());
    for (codec, compression) in codecs.iter().flat_map(|codec| compressions.iter().map(|other| (*codec, *other))) {
        for length in [0, 1, LONG - 1, LONG, LONG + 1, 300_000, 1_500_000] {
            let (case, data) = (format!("{codec:?} {compression:?} {length}"), data(length));
            let given = client.give(data.clone()).address(address).codec(codec).compression(compression);
            assert!(in_time(given).await.unwrap() == data, "{case}");
            if codec == Codec::Raw {
                continue;
            }
            let picture = Picture { title: "a title".to_owned(), pixels: data.clone() };
            let shown = client.show(picture.clone()).address(address).codec(codec).compression(compression);
            assert!(in_time(shown).await.unwrap() == picture, "{case}");
            for fails in [false, true] {
                let call = client.try_give("a title".to_owned(), data.clone(), fails);
                match in_time(call.address(address).codec(codec).compression(compression)).await {
                    Ok(given) => assert!(!fails && given == data, "{case}"),
                    Err(CallError::Service(error)) => assert!(fails && error == picture, "{case}"),
                    Err(other) => panic!("{case}: {other:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn codecs_carry_long_bytes() {
    round(Server::builder(), Client::builder(), &Codec::ALL, &[Compression::None]).await;
}

#[tokio::test]
async fn compressions_carry_long_bytes() {
    round(Server::builder(), Client::builder(), &[Codec::Bincode], Compression::SUPPORTED).await;
}

#[tokio::test]
async fn tls_carries_long_bytes() {
    let authority = Authority::new();
    let server = Server::builder().tls(authority.issue("server", &["127.0.0.1"]).server());
    let client = Client::builder().tls(ClientTls::new(authority.ca()));
    round(server, client, &[Codec::Bincode], &[Compression::None]).await;
}

#[tokio::test]
async fn long_and_short_calls_share_connection() {
    let serving = Serving::start(Server::builder().service(PicturesServer::new(Gallery::default()))).await;
    let (client, address) = (PicturesClient::new(Client::builder().build().unwrap()), serving.address());
    let lengths = (0..200).map(|number| [3, LONG + 7, 40, 200_000, LONG - 1][number % 5] + number);
    let calls: Vec<_> =
        lengths.map(|length| (length, Task::begin(client.give(data(length)).address(address)))).collect();
    for (length, call) in calls {
        assert!(call.end().await.unwrap() == data(length), "{length}");
    }
}

#[tokio::test]
async fn server_copies_neither_arguments_nor_results() {
    #[derive(Serialize)]
    struct Give {
        data: Bytes,
    }
    #[derive(Serialize)]
    struct Show {
        picture: Picture,
    }
    let picture = Picture { title: "a title".to_owned(), pixels: data(LONG) };
    let arguments = [encoded(&Give { data: data(LONG) }), encoded(&Show { picture })];
    for (method, bytes) in [0, 2].into_iter().zip(arguments) {
        let gallery = Gallery::default();
        let outbox = Arc::new(Outbox::new(1 << 20));
        let (codec, compression) = (Codec::Bincode as u8, Compression::None as u8);
        let request = Header { codec, compression, ..Header::empty(FrameType::Request, 1) };
        let sink = WireSink::new(Arc::clone(&outbox), &request, 1 << 20);
        let context = Context::new(Arc::default(), None, Metadata::default(), None);
        let payload = Payload { codec, compression, bytes: bytes.clone(), max_decompressed: 0 };
        PicturesServer::new(gallery.clone()).call(method, payload, Responder::wire(context, sink)).await;
        assert!(
            inside(&gallery.last(), bytes.as_ptr_range()),
            "the handler receives a slice of the bytes that were read"
        );
        let waiting = outbox.push(|out| out.chunk().len().min(out.copied().len())).unwrap();
        assert!(waiting < 200, "the outbox copies only the beginning of the frame: {waiting}");
        assert!(!outbox.is_empty());
    }
}

fn encoded(arguments: &impl Serialize) -> Bytes {
    let mut out = WriteBuffer::new();
    Codec::Bincode.encode_into(arguments, &mut out).unwrap();
    out.copy_to_bytes(out.len())
}

fn inside(part: &Bytes, whole: Range<*const u8>) -> bool {
    let part = part.as_ptr_range();
    whole.start <= part.start && part.end <= whole.end
}
