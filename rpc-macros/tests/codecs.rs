//! The types that the docs of `rpc_service` list as unsuitable for bincode.

use rpc_core::{Code, Codec, rpc_service};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { number: u8 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value")]
enum Adjacent {
    One(u8),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    number: u8,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    #[serde(flatten)]
    inner: Inner,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Skipping {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    number: Option<u8>,
}

#[rpc_service]
trait Types {
    async fn tagged(&self, value: Tagged) -> Tagged;
    async fn adjacent(&self, value: Adjacent) -> Adjacent;
    async fn untagged(&self, value: Untagged) -> Untagged;
    async fn flat(&self, value: Flat) -> Flat;
    async fn skipping(&self, value: Skipping) -> Skipping;
    async fn any(&self, value: serde_json::Value) -> serde_json::Value;
}

struct Echo;

impl Types for Echo {
    async fn tagged(&self, value: Tagged) -> Tagged {
        value
    }

    async fn adjacent(&self, value: Adjacent) -> Adjacent {
        value
    }

    async fn untagged(&self, value: Untagged) -> Untagged {
        value
    }

    async fn flat(&self, value: Flat) -> Flat {
        value
    }

    async fn skipping(&self, value: Skipping) -> Skipping {
        value
    }

    async fn any(&self, value: serde_json::Value) -> serde_json::Value {
        value
    }
}

#[tokio::test]
async fn listed_types_need_a_self_describing_codec() {
    let types = TypesClient::local(Echo);
    macro_rules! check {
        ($($method:ident($value:expr);)*) => {
            $(
                for codec in [Codec::Json, Codec::MessagePack] {
                    assert_eq!(types.$method($value).codec(codec).await.unwrap(), $value, "{codec:?}");
                }
                let error = types.$method($value).await.unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument, "{}: {error}", stringify!($method));
            )*
        };
    }
    check! {
        tagged(Tagged::One { number: 7 });
        adjacent(Adjacent::One(7));
        untagged(Untagged::Number(7));
        flat(Flat { inner: Inner { number: 7 } });
        skipping(Skipping { number: None });
        any(serde_json::json!({"a": [1, null]}));
    }
}
