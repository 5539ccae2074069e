//! The upload of a file.

use std::{io::IsTerminal as _, path::Path};

use bytes::BytesMut;
use contracts::{FeedClient, Receipt};
use indicatif::{ProgressBar, ProgressStyle};
use msnb::{Caller, Client, Status, StreamSender, Streaming, app::Failure};
use tokio::{fs::File, io::AsyncReadExt as _};

use crate::hash::Hash;

/// Uploads a file and prints its receipt.
pub(crate) async fn run(feed: &FeedClient<Client>, file: &Path) -> Result<(), Failure> {
    let Receipt { bytes, .. } = upload(feed, file).await?;
    println!("uploaded {bytes} bytes of {}", file.display());
    Ok(())
}

/// Uploads a file, and compares the hash of its receipt.
pub(crate) async fn upload(feed: &FeedClient<impl Caller>, path: &Path) -> Result<Receipt, Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("the file has no name in UTF-8")?;
    let file = File::open(path).await?;
    let progress = progress(file.metadata().await?.len());
    let (sender, parts) = Streaming::channel(1);
    // The call ends the reading, and the end of the file ends the call.
    let (receipt, hash) = tokio::join!(feed.upload(name.to_owned(), parts), read(file, sender, &progress));
    progress.finish_and_clear();
    let (receipt, hash) = (receipt?, hash?);
    if receipt.hash != hash.0 {
        return Err("the stored file differs".into());
    }
    Ok(receipt)
}

/// Sends the parts of a file as fast as the provider stores them.
async fn read(
    mut file: File,
    sender: StreamSender<bytes::Bytes, Status>,
    progress: &ProgressBar,
) -> std::io::Result<Hash> {
    let mut hash = Hash::new();
    loop {
        let mut part = BytesMut::with_capacity(PART);
        match file.read_buf(&mut part).await {
            Ok(0) => return Ok(hash),
            Ok(count) => {
                hash.update(&part);
                // The call has failed, and reports why.
                if sender.send(part.freeze()).await.is_err() {
                    return Ok(hash);
                }
                progress.inc(count as u64);
            }
            Err(error) => {
                sender.fail(Status::internal(format!("cannot read the file: {error}")));
                return Err(error);
            }
        }
    }
}

/// Returns a progress bar, hidden if stderr is not a terminal.
fn progress(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    // The template is a constant; if it were invalid, the default style would be used.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar
}

/// The length of a part, in bytes.
const PART: usize = 64 << 10;
