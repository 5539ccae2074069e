//! The chat.

use contracts::{FeedClient, Remark};
use msnb::{
    Client, Streaming,
    app::{Failure, shutdown_signal},
};
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

/// Sends each line of the input, and prints the remarks of others until the input ends.
pub(crate) async fn run(feed: &FeedClient<Client>, room: String, author: String) -> Result<(), Failure> {
    let (sender, said) = Streaming::channel(16);
    // The affinity brings everybody in a room to the same provider.
    let mut heard = feed.talk(room.clone(), author.clone(), said).affinity(&room).await?;
    println!("{author} is in the {room}");
    // The two directions do not wait for each other.
    let speaking = async {
        let mut lines = BufReader::new(stdin()).lines();
        while let Some(line) = lines.next_line().await? {
            sender.send(line).await?;
        }
        Ok::<(), Failure>(())
    };
    let hearing = async {
        while let Some(remark) = heard.next().await {
            let Remark { author: other, text } = remark?;
            if other != author {
                // Escaped, because others choose them.
                println!("{}: {}", other.escape_debug(), text.escape_debug());
            }
        }
        Ok(())
    };
    // All futures are safe to drop.
    tokio::select! {
        spoken = speaking => spoken,
        heard = hearing => heard,
        () = shutdown_signal() => Ok(()),
    }
}
