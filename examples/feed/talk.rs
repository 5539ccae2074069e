//! The chat.

use std::pin::pin;

use contracts::{FeedClient, Remark};
use rpc_cli::{Failure, shutdown_signal};
use rpc_client::Client;
use rpc_core::Streaming;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

/// Sends each line of the input, and prints the remarks of others until the input ends.
pub(crate) async fn run(feed: &FeedClient<Client>, room: String, author: String) -> Result<(), Failure> {
    let (sender, said) = Streaming::channel(16);
    // The affinity brings everybody in a room to the same provider.
    let mut heard = feed.talk(room.clone(), author.clone(), said).affinity(&room).await?;
    println!("{author} is in the {room}");
    let (mut lines, mut shutdown) = (BufReader::new(stdin()).lines(), pin!(shutdown_signal()));
    loop {
        // All futures are safe to drop.
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => sender.send(line).await?,
                None => return Ok(()),
            },
            remark = heard.next() => match remark.transpose()? {
                Some(Remark { author: other, text }) if other != author => println!("{other}: {}", text.escape_debug()),
                Some(_) => {}
                None => return Ok(()),
            },
            () = &mut shutdown => return Ok(()),
        }
    }
}
