//! The arguments of a call, and the items of its stream as lines of JSON.

use std::pin::Pin;

use futures_util::{Stream, TryStreamExt as _, stream};
use rpc_core::{Code, Status};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use super::Call;
use crate::command_error::CommandError;

/// The lines of a file or of stdin.
pub(super) type Lines = Pin<Box<dyn AsyncBufRead + Send>>;

/// The longest line of a stream, in bytes.
const MAX_LINE: u64 = 8 << 20;

impl Call {
    /// Reads the arguments.
    pub(super) async fn arguments(&self, route: &str) -> Result<Value, CommandError> {
        let given = match (&self.data, self.arguments.as_deref()) {
            (Some(data), _) => match data.strip_prefix('@') {
                Some("-") => read_stdin().await?,
                Some(file) => tokio::fs::read_to_string(file).await.map_err(|error| {
                    CommandError::input(format!("cannot read {file}: {error}"))
                        .with_fix("write @FILE with the path of a text file")
                })?,
                None => data.clone(),
            },
            (None, Some("-")) => read_stdin().await?,
            (None, Some(text)) => text.to_owned(),
            (None, None) => "{}".to_owned(),
        };
        let template = format!("`msnb describe {route} --template{}` prints a body to fill in", self.options(None));
        let value: Value = serde_json::from_str(&given).map_err(|error| {
            let fix = format!("quote the JSON for the shell, such as '{{\"name\": \"Bo\"}}'; {template}");
            CommandError::input(format!("the arguments are not valid JSON: {error}")).with_fix(fix)
        })?;
        if !value.is_object() {
            let message = "the arguments are not a JSON object with the names of the parameters";
            return Err(CommandError::input(message).with_fix(template));
        }
        Ok(value)
    }

    /// Opens the file or stdin with the items that the call sends.
    pub(super) async fn lines(&self) -> Result<Lines, CommandError> {
        open(self.items.as_deref().unwrap_or("-")).await
    }
}

/// Opens a file, or stdin for `-`.
async fn open(name: &str) -> Result<Lines, CommandError> {
    if name == "-" {
        return Ok(Box::pin(BufReader::new(tokio::io::stdin())));
    }
    match tokio::fs::File::open(name).await {
        Ok(file) => Ok(Box::pin(BufReader::new(file))),
        Err(error) => Err(CommandError::input(format!("cannot read {name}: {error}"))
            .with_fix("write --items with the path of a text file, or - for stdin")),
    }
}

/// Reads all items of a file, or of stdin for `-`.
pub(crate) async fn read_items(name: &str) -> Result<Vec<Value>, CommandError> {
    let read: Result<Vec<_>, Status> = items(open(name).await?).try_collect().await;
    read.map_err(|status| {
        CommandError::input(status.message().to_owned()).with_fix("write each item as one line of JSON")
    })
}

/// Returns the values of lines of JSON. Empty lines are skipped. The stream ends after an invalid line.
pub(super) fn items(lines: Lines) -> impl Stream<Item = Result<Value, Status>> + Send + 'static {
    stream::unfold(Some((lines, 0)), async |state| {
        let (mut lines, mut number) = state?;
        loop {
            number += 1;
            match next_item(&mut lines, number).await {
                Ok(None) => return None,
                Ok(Some(None)) => {}
                Ok(Some(Some(item))) => return Some((Ok(item), Some((lines, number)))),
                Err(status) => return Some((Err(status), None)),
            }
        }
    })
}

/// Returns the value of the next line, `Some(None)` for an empty one, or `None` at the end.
async fn next_item(lines: &mut Lines, number: u64) -> Result<Option<Option<Value>>, Status> {
    let invalid = |what: String| Status::new(Code::InvalidArgument, format!("line {number} of the items: {what}"));
    let mut line = Vec::new();
    let read = lines.as_mut().take(MAX_LINE + 1).read_until(b'\n', &mut line).await;
    match read.map_err(|error| invalid(error.to_string()))? {
        0 => return Ok(None),
        length if length as u64 > MAX_LINE => return Err(invalid(format!("it is longer than {MAX_LINE} bytes"))),
        _ => {}
    }
    if line.trim_ascii().is_empty() {
        return Ok(Some(None));
    }
    serde_json::from_slice(&line).map(|item| Some(Some(item))).map_err(|error| invalid(error.to_string()))
}

async fn read_stdin() -> Result<String, CommandError> {
    let mut text = String::new();
    let read = tokio::io::stdin().read_to_string(&mut text).await;
    read.map_err(|error| CommandError::input(format!("cannot read the arguments from stdin: {error}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use serde_json::json;

    use super::*;

    async fn read(text: String) -> Vec<Result<Value, String>> {
        let lines: Lines = Box::pin(BufReader::new(std::io::Cursor::new(text.into_bytes())));
        items(lines).map(|item| item.map_err(|status| status.message().to_owned())).collect().await
    }

    #[tokio::test]
    async fn lines_are_items() {
        assert_eq!(read("1\n\n  \n{\"a\": 2}".to_owned()).await, [Ok(json!(1)), Ok(json!({ "a": 2 }))]);
        let failed = read("1\nx\n2\n".to_owned()).await;
        assert_eq!((failed.len(), &failed[0]), (2, &Ok(json!(1))));
        assert!(failed[1].as_ref().unwrap_err().starts_with("line 2 of the items: expected value"), "{failed:?}");
    }

    #[tokio::test]
    async fn line_is_rejected_above_the_limit() {
        let line = |length: u64| format!("\"{}\"\n", "a".repeat(length as usize - 3));
        assert!(read(line(MAX_LINE)).await[0].is_ok());
        assert!(read(line(MAX_LINE + 1)).await[0].as_ref().unwrap_err().contains("longer than"));
    }
}
