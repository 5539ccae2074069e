//! The contract `shop.Goods:1.0`.

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
