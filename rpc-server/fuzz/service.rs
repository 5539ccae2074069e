//! The service under attack: a part of `test.Wire:1.0`.
//!
//! The attacks of the tests therefore serve as seeds.

use std::{collections::HashMap, future::pending};

use bytes::Bytes;
use rpc_core::{Context, Status, Streaming, rpc_service};

#[rpc_service(name = "test.Wire", version = "1.0")]
pub(crate) trait Wire {
    async fn echo(&self, text: String) -> String;
    async fn wait(&self);
    async fn briefly(&self);
    async fn zeros(&self, count: usize) -> Bytes;
    #[rpc(one_way)]
    async fn note(&self, text: String);
    async fn metadata(&self) -> usize;
    async fn count(&self, to: u32, long: bool) -> Streaming<String>;
    async fn collect(&self, texts: Streaming<String>) -> Result<u32, Status>;
    async fn ignore(&self, texts: Streaming<String>);
    async fn copy(&self, texts: Streaming<String>) -> Streaming<String>;
    #[rpc(once)]
    async fn once(&self) -> u8;
    async fn numbers(&self, list: Vec<u64>) -> usize;
    async fn nothings(&self, list: Vec<()>) -> usize;
    async fn map(&self, map: HashMap<u64, u64>) -> usize;
    async fn bytes(&self, data: Bytes) -> Bytes;
    async fn fail(&self, why: String) -> Result<(), String>;
}

pub(crate) struct Served;

impl Wire for Served {
    async fn echo(&self, text: String) -> String {
        text
    }

    async fn wait(&self) {
        pending().await
    }

    async fn briefly(&self) {
        tokio::task::yield_now().await;
    }

    async fn zeros(&self, count: usize) -> Bytes {
        vec![0; count.min(100_000)].into()
    }

    async fn note(&self, _text: String) {}

    async fn metadata(&self) -> usize {
        Context::current().map_or(0, |context| context.metadata().iter().count())
    }

    async fn count(&self, to: u32, long: bool) -> Streaming<String> {
        let width = if long { 1000 } else { 1 };
        Streaming::from_iterator((1..=to.min(1000)).map(move |number| format!("{number:0width$}")))
    }

    async fn collect(&self, mut texts: Streaming<String>) -> Result<u32, Status> {
        let mut count = 0;
        while let Some(text) = texts.next().await {
            text?;
            count += 1;
        }
        Ok(count)
    }

    async fn ignore(&self, texts: Streaming<String>) {
        pending::<()>().await;
        drop(texts);
    }

    async fn copy(&self, texts: Streaming<String>) -> Streaming<String> {
        texts
    }

    async fn once(&self) -> u8 {
        tokio::task::yield_now().await;
        7
    }

    async fn numbers(&self, list: Vec<u64>) -> usize {
        list.len()
    }

    async fn nothings(&self, list: Vec<()>) -> usize {
        list.len()
    }

    async fn map(&self, map: HashMap<u64, u64>) -> usize {
        map.len()
    }

    async fn bytes(&self, data: Bytes) -> Bytes {
        data
    }

    async fn fail(&self, why: String) -> Result<(), String> {
        Err(why)
    }
}
