//! The contracts that provider and consumer share. A contract crate depends on msnb without its features.

mod feed;
mod goods;
mod greeter;

pub use feed::{Feed, FeedClient, FeedServer, Price, Receipt, Remark};
pub use goods::{Good, Goods, GoodsClient, GoodsError, GoodsServer};
pub use greeter::{GreetError, Greeter, GreeterClient, GreeterServer};
