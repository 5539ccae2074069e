//! The contract `shop.Goods:1.0` and an implementation.

use rpc_core::rpc_service;
use serde::{Deserialize, Serialize};

/// A catalog of goods.
#[rpc_service(name = "shop.Goods", version = "1.0")]
pub trait Goods {
    /// Returns the good with this id.
    #[rpc(idempotent)]
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

/// An implementation of [`Goods`] with five goods, whose ids are 1 to 5.
#[derive(Debug, Clone, Default)]
pub struct GoodsCatalog;

impl Goods for GoodsCatalog {
    async fn find_goods(&self, id: u64) -> Result<Good, GoodsError> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let (name, price) = index.and_then(|index| GOODS.get(index)).ok_or(GoodsError::NotFound { id })?;
        Ok(Good { id, name: (*name).to_owned(), price: *price })
    }
}

const GOODS: [(&str, u64); 5] =
    [("teapot", 2_499), ("lantern", 3_950), ("compass", 1_275), ("notebook", 650), ("umbrella", 1_899)];
