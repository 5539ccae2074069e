//! The contract `shop.Goods:1.0`.

use msnb::rpc_service;
use serde::{Deserialize, Serialize};

/// A catalog of goods.
#[rpc_service(name = "shop.Goods", version = "1.0")]
pub trait Goods {
    /// Returns the good with this id.
    #[rpc(idempotent, http = "GET /goods/{id}", status(NotFound = 404))]
    async fn find_goods(&self, id: u64) -> Result<Good, GoodsError>;
}

/// A good for sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// The id.
    pub id: u64,
    /// The name.
    pub name: String,
    /// The price in cents.
    pub price: u64,
}

/// An error of [`Goods`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GoodsError {
    /// No good has this id.
    #[error("no good has the id {id}")]
    NotFound {
        /// The requested id.
        id: u64,
    },
}
