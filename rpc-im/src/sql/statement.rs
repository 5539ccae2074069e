//! [`Statement`]: SQL for both engines with its arguments, and [`Columns`]: the values of a row.

use std::iter;

use sqlx::{
    Arguments as _, Row as _,
    any::{AnyArguments, AnyRow},
};

/// The engine of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    MariaDb,
}

/// A statement with its arguments.
///
/// The text has a `?` for each argument. `{now}` is the database's time in milliseconds since 1970, and `{keep}` is a
/// suffix of SELECT: it locks the rows against removal until the transaction ends.
pub(crate) struct Statement {
    text: String,
    arguments: AnyArguments,
}

impl Engine {
    /// Returns the expression for the bitwise exclusive or of a column and an argument.
    pub(crate) fn exclusive_or(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("{column} # ?"),
            // The operator returns a number without sign.
            Self::MariaDb => format!("CAST({column} ^ ? AS SIGNED)"),
        }
    }
}

impl Statement {
    /// Creates a statement without arguments.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), arguments: AnyArguments::default() }
    }

    /// Adds text to the end of the statement.
    pub(crate) fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Adds a text argument.
    pub(crate) fn text(mut self, value: &str) -> Self {
        self.arguments.add(value.to_owned()).expect(INFALLIBLE);
        self
    }

    /// Adds a text argument for a column of a binary type.
    pub(crate) fn body(mut self, value: &str) -> Self {
        self.arguments.add(value.as_bytes().to_vec()).expect(INFALLIBLE);
        self
    }

    /// Adds a number, which is stored with the same bits.
    pub(crate) fn number(mut self, value: u64) -> Self {
        self.arguments.add(value.cast_signed()).expect(INFALLIBLE);
        self
    }

    /// Adds a sequence number or time to compare with. Greater values than the database stores are equivalent.
    pub(crate) fn position(self, value: u64) -> Self {
        self.number(value.min(i64::MAX as u64))
    }

    /// Adds a number of few bits.
    pub(crate) fn small(mut self, value: i16) -> Self {
        self.arguments.add(value).expect(INFALLIBLE);
        self
    }

    /// Adds the end of an INSERT that sets `column` if a row with these `keys` exists, and locks that row.
    pub(crate) fn or_update(self, engine: Engine, keys: &str, column: &str) -> Self {
        self.push(&match engine {
            Engine::Postgres => format!(" ON CONFLICT ({keys}) DO UPDATE SET {column} = EXCLUDED.{column}"),
            Engine::MariaDb => format!(" ON DUPLICATE KEY UPDATE {column} = VALUES({column})"),
        })
    }

    /// Returns the text for the engine, and the arguments.
    pub(super) fn into_parts(self, engine: Engine) -> (String, AnyArguments) {
        (translate(&self.text, engine), self.arguments)
    }
}

/// The values of a row, by the index of their column.
pub(crate) trait Columns {
    /// Returns a text.
    fn text(&self, index: usize) -> Result<String, sqlx::Error>;
    /// Returns a text from a column of a binary type.
    fn body(&self, index: usize) -> Result<String, sqlx::Error>;
    /// Returns a number.
    fn number(&self, index: usize) -> Result<u64, sqlx::Error>;
}

impl Columns for AnyRow {
    fn text(&self, index: usize) -> Result<String, sqlx::Error> {
        self.try_get(index)
    }

    fn body(&self, index: usize) -> Result<String, sqlx::Error> {
        String::from_utf8(self.try_get(index)?).map_err(|error| sqlx::Error::Decode(error.into()))
    }

    fn number(&self, index: usize) -> Result<u64, sqlx::Error> {
        Ok(self.try_get::<i64, _>(index)?.cast_unsigned())
    }
}

/// Splits items into slices of up to `limit` items, whose lengths are powers of two, so that few different statements
/// exist.
pub(crate) fn batches<T>(mut items: &[T], limit: usize) -> impl Iterator<Item = &[T]> {
    iter::from_fn(move || {
        let length = 1 << items.len().min(limit).checked_ilog2()?;
        let (batch, rest) = items.split_at(length);
        items = rest;
        Some(batch)
    })
}

/// Splits items into slices, and repeats the last item of each until its length is a power of two.
pub(crate) fn padded<T>(items: &[T]) -> impl Iterator<Item = Vec<&T>> {
    items.chunks(MAX_BATCH).map(|chunk| {
        let last = chunk.last().expect("a chunk has items");
        chunk.iter().chain(iter::repeat(last)).take(chunk.len().next_power_of_two()).collect()
    })
}

/// Returns `count` times `item`, separated by `separator`.
pub(crate) fn placeholders(count: usize, item: &str, separator: &str) -> String {
    vec![item; count].join(separator)
}

/// The maximum number of items in most statements, a power of two.
pub(crate) const MAX_BATCH: usize = 64;

const INFALLIBLE: &str = "an argument of any engine is stored as it is";

fn translate(text: &str, engine: Engine) -> String {
    let (now, keep) = match engine {
        Engine::Postgres => ("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)", "FOR KEY SHARE"),
        Engine::MariaDb => ("CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)", "LOCK IN SHARE MODE"),
    };
    let text = text.replace("{now}", now).replace("{keep}", keep);
    if engine == Engine::MariaDb {
        return text;
    }
    let mut translated = String::with_capacity(text.len() + 64);
    for (index, part) in text.split('?').enumerate() {
        if index > 0 {
            translated.push_str(&format!("${index}"));
        }
        translated.push_str(part);
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_numbers_its_placeholders() {
        let text = "SELECT a FROM t WHERE b = ? AND c IN (?, ?)";
        assert_eq!(translate(text, Engine::Postgres), "SELECT a FROM t WHERE b = $1 AND c IN ($2, $3)");
        assert_eq!(translate(text, Engine::MariaDb), text);
    }

    #[test]
    fn lengths_of_batches_are_powers_of_two() {
        let lengths = |count: usize| batches(&vec![(); count], MAX_BATCH).map(<[()]>::len).collect::<Vec<_>>();
        assert!(lengths(0).is_empty());
        assert_eq!(lengths(13), [8, 4, 1]);
        assert_eq!(lengths(2 * MAX_BATCH + 1), [MAX_BATCH, MAX_BATCH, 1]);
    }

    #[test]
    fn padding_repeats_the_last_item() {
        let items: Vec<_> = (0..MAX_BATCH + 3).collect();
        let chunks: Vec<_> = padded(&items).collect();
        assert_eq!(chunks[0].len(), MAX_BATCH);
        assert_eq!(chunks[1], [&64, &65, &66, &66]);
        assert_eq!(padded::<()>(&[]).count(), 0);
    }
}
