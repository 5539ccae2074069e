//! [`connect`]: from a URL to a backend.

use std::sync::Arc;

use rpc_core::{Code, Discovery, Error, Registry};

use crate::{Fixed, Local, Memory};

/// Both halves of a registry: what every backend is. `Arc<dyn Backend>` becomes `Arc<dyn Registry>` or `Arc<dyn Discovery>` wherever
/// one of these is asked for.
pub trait Backend: Registry + Discovery {}

impl<T: Registry + Discovery + ?Sized> Backend for T {}

/// Opens the registry that `url` names; the crate's documentation lists the forms.
///
/// Hosts that are out of reach are no error, except for `fixed:`, whose names must resolve: a backend goes on trying. Dropping the
/// last handle to a `local:` or `nacos:` backend takes off what was registered through it, in the background, and ends its watches;
/// their receivers keep the last list.
///
/// # Errors
///
/// `InvalidArgument` when the URL is not understood; the message lists what is, and repeats no value that may be secret.
/// `Unauthenticated` when Nacos answers that it does not know the user or the password. `Unavailable` when the names of `fixed:`
/// cannot be resolved or the directory of `local:` cannot be used. `Unimplemented` for `local:` on a system other than Unix, and
/// for `nacos:` without the feature of this name.
///
/// # Panics
///
/// Outside a Tokio runtime with its I/O and time drivers enabled.
///
/// # Cancel safety
///
/// Nothing remains of a dropped call.
pub async fn connect(url: &str) -> Result<Arc<dyn Backend>, Error> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "local" => Ok(Arc::new(Local::open(local_directory(rest)?).await?)),
        "fixed" => Ok(Arc::new(Fixed::new(plain(scheme, rest)?).await?)),
        "memory" => Ok(Arc::new(Memory::named(plain(scheme, rest)?))),
        "nacos" => nacos(url).await,
        _ => Err(invalid(format!("the registry's URL must begin with one of {SCHEMES}"))),
    }
}

const SCHEMES: &str =
    "`local:`, `local:/dir`, `nacos://host:8848,host2:8848`, `fixed:host:port,host:port`, `memory:`, `memory:name`";

#[cfg(feature = "nacos")]
async fn nacos(url: &str) -> Result<Arc<dyn Backend>, Error> {
    Ok(Arc::new(crate::Nacos::connect(url).await?))
}

#[cfg(not(feature = "nacos"))]
async fn nacos(_: &str) -> Result<Arc<dyn Backend>, Error> {
    Err(Error::not_executed(Code::Unimplemented, "rpc-registry was built without its feature `nacos`"))
}

/// What follows a scheme that has no parameters and no `//`.
fn plain<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, Error> {
    if rest.starts_with("//") || rest.contains(['?', '#', '@']) {
        return Err(invalid(format!("`{scheme}:` takes neither `//` nor parameters; known are {SCHEMES}")));
    }
    Ok(rest)
}

fn local_directory(rest: &str) -> Result<Option<std::path::PathBuf>, Error> {
    match plain("local", rest)? {
        "" => Ok(None),
        path if std::path::Path::new(path).is_absolute() => Ok(Some(path.into())),
        _ => Err(invalid("the directory of `local:/dir` must be an absolute path".to_owned())),
    }
}

fn invalid(message: String) -> Error {
    Error::not_executed(Code::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_understood_is_told_with_what_is() {
        for bad in ["", "x", "consul://a", "memory://a", "memory:a?b=c", "fixed://a:1", "local://a", "local:a"] {
            let error = connect(bad).await.err().unwrap();
            assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
        }
        let error = connect("redis://user:hunter2@host").await.err().unwrap().to_string();
        assert!(error.contains("nacos://") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn a_backend_becomes_either_half() {
        let backend = connect("memory:halves").await.unwrap();
        let registry: Arc<dyn Registry> = Arc::clone(&backend) as _;
        let discovery: Arc<dyn Discovery> = backend;
        assert_eq!(discovery.url(), "memory:halves");
        assert!(registry.reachable_ip().await.unwrap().is_loopback());
    }
}
