//! The contract `shop.Goods:1.0` and a shelf that keeps it.

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

/// Finds goods.
#[rpc_service(name = "shop.Goods", version = "1.0")]
pub trait Goods {
    /// The good with this number.
    #[rpc(idempotent)]
    async fn find_goods(&self, id: u64) -> Result<Good, GoodsError>;
}

/// Something to buy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// Its number.
    pub id: u64,
    /// What it is.
    pub name: String,
    /// Its price in cents.
    pub price: u64,
}

/// Why a good was not found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GoodsError {
    /// There is no good with this number.
    #[error("there is no good {id}")]
    NotFound {
        /// The number asked for.
        id: u64,
    },
}

/// A shelf with a few goods: 1 to 5.
#[derive(Debug, Clone, Default)]
pub struct Shelf;

impl Goods for Shelf {
    async fn find_goods(&self, id: u64) -> Result<Good, GoodsError> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let (name, price) = index.and_then(|index| GOODS.get(index)).ok_or(GoodsError::NotFound { id })?;
        Ok(Good { id, name: (*name).to_owned(), price: *price })
    }
}

const GOODS: [(&str, u64); 5] =
    [("teapot", 2_499), ("lantern", 3_950), ("compass", 1_275), ("notebook", 650), ("umbrella", 1_899)];
