//! [`Failure`]: the error of `main`.

use std::{error::Error, fmt};

/// The error of a `main` function, which prints its message and its causes.
///
/// Rust prints the `Debug` form of an error that `main` returns. The `Debug` form of this type is its message, and a
/// line for each cause that the line above does not contain:
///
/// ```text
/// Error: cannot read the configuration
///   caused by: cannot read shop.toml
///   caused by: No such file or directory (os error 2)
/// ```
///
/// The operator `?` converts any error, and `.into()` converts a text.
///
/// # Examples
///
/// ```
/// use rpc_cli::Failure;
///
/// fn main() -> Result<(), Failure> {
///     let port: u16 = "8080".parse()?;
///     if port == 0 {
///         return Err("the port is 0".into());
///     }
///     Ok(())
/// }
/// ```
pub struct Failure(Box<dyn Error + Send + Sync>);

// Without an implementation of `Error`, so that every error converts into this type.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let (mut above, mut cause) = (self.0.to_string(), self.0.source());
        while let Some(error) = cause {
            let text = error.to_string();
            if !above.contains(&text) {
                write!(f, "\n  caused by: {text}")?;
                above = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<dyn Error + Send + Sync>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    fn layer(text: &'static str, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Layer {
        Layer(text, Some(cause.into()))
    }

    #[test]
    fn debug_prints_one_line_per_cause() {
        let error = layer("cannot start", layer("cannot read users", io::Error::other("the disk is full")));
        let printed = format!("{:?}", Failure::from(error));
        assert_eq!(printed, "cannot start\n  caused by: cannot read users\n  caused by: the disk is full");
        assert_eq!(format!("{:?}", Failure::from("no port")), "no port");
    }

    #[test]
    fn debug_skips_causes_that_are_already_printed() {
        let error = layer("cannot listen: address in use", layer("address in use", io::Error::other("errno 98")));
        let printed = format!("{:?}", Failure::from(error));
        assert_eq!(printed, "cannot listen: address in use\n  caused by: errno 98");
    }

    #[test]
    fn display_is_the_message() {
        assert_eq!(Failure::from(layer("cannot start", "the cause")).to_string(), "cannot start");
    }
}
