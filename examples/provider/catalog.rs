//! The implementation of `shop.Goods:1.0`.

use contracts::{Good, Goods, GoodsError};

/// An implementation of [`Goods`] with five goods, whose ids are 1 to 5.
#[derive(Debug, Clone, Default)]
pub(crate) struct GoodsCatalog;

impl Goods for GoodsCatalog {
    async fn find_goods(&self, id: u64) -> Result<Good, GoodsError> {
        let index = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let (name, price) = index.and_then(|index| GOODS.get(index)).ok_or(GoodsError::NotFound { id })?;
        Ok(Good { id, name: (*name).to_owned(), price: *price })
    }
}

const GOODS: [(&str, u64); 5] =
    [("teapot", 2_499), ("lantern", 3_950), ("compass", 1_275), ("notebook", 650), ("umbrella", 1_899)];
