//! `shop.Feed:1.0`: streams of prices, files and remarks.

use bytes::Bytes;
use msnb::{HasCursor, Status, Streaming, rpc_service};
use serde::{Deserialize, Serialize};

/// Streams between a shop and its customers.
#[rpc_service(name = "shop.Feed", version = "1.0")]
pub trait Feed {
    /// Returns the prices of a good as they change: from now on, or behind a price.
    async fn prices(&self, good: String, #[rpc(cursor)] after: Option<u64>) -> Result<Streaming<Price>, Status>;

    /// Stores a file, whose parts arrive one after the other.
    #[rpc(timeout = "60m")]
    async fn upload(&self, name: String, parts: Streaming<Bytes>) -> Result<Receipt, Status>;

    /// Joins a room: sends remarks to all who are in it, and receives theirs.
    async fn talk(&self, room: String, author: String, remarks: Streaming<String>) -> Streaming<Remark>;
}

/// A price of a good. All providers agree on the price with a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// The position in the feed.
    pub number: u64,
    /// In cents.
    pub cents: u32,
}

impl HasCursor for Price {
    type Cursor = u64;

    fn cursor(&self) -> u64 {
        self.number
    }
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The length of the file.
    pub bytes: u64,
    /// The FNV-1a hash of its content.
    pub hash: u64,
}

/// A remark of someone in a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remark {
    /// The name of the author.
    pub author: String,
    /// The text.
    pub text: String,
}
