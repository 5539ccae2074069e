//! [`connect`]: opens the backend that a URL names.

use std::sync::Arc;

use rpc_core::{Code, Discovery, Error, Registry};

use crate::{Administration, Fixed, Local, Memory};

/// A registry backend: registration, discovery and administration.
///
/// `Arc<dyn Backend>` coerces to `Arc<dyn Registry>` and to `Arc<dyn Discovery>`.
pub trait Backend: Registry + Discovery + Administration {}

impl<T: Registry + Discovery + Administration + ?Sized> Backend for T {}

/// Opens the registry that `url` names; the crate's documentation lists the URL forms.
///
/// The backend's background tasks run on the current runtime: keep it for as long as the backend. When it ends, watches
/// end, which their receivers detect, and providers that are registered in Nacos are removed, which is logged. Watches
/// and registrations that are started afterwards use the runtime of their caller.
///
/// An unreachable host is not an error, because a backend retries in the background; the exception is `fixed:`, whose
/// host names must resolve. Dropping the last handle to a `local:` or `nacos:` backend removes its registrations in the
/// background and ends its watches; their receivers keep the last list.
///
/// # Errors
///
/// - `InvalidArgument` if the URL is invalid. The message lists the valid forms and contains no value that may be
///   secret.
/// - `Unauthenticated` if Nacos rejects the user or the password.
/// - `Unavailable` if a host name of `fixed:` cannot be resolved or the directory of `local:` cannot be used.
/// - `Unimplemented` for `local:` on systems other than Unix, and for `nacos:` without the feature `nacos`.
///
/// # Panics
///
/// Outside a Tokio runtime with its I/O and time drivers enabled.
///
/// # Cancel safety
///
/// Safe to drop at any time: a dropped future releases everything that it opened.
pub async fn connect(url: &str) -> Result<Arc<dyn Backend>, Error> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "local" => Ok(Arc::new(Local::open(local_directory(rest)?).await?)),
        "fixed" => Ok(Arc::new(Fixed::new(without_parameters(scheme, rest)?).await?)),
        "memory" => Ok(Arc::new(Memory::named(without_parameters(scheme, rest)?))),
        "nacos" => nacos(url).await,
        _ => Err(invalid(format!("invalid registry URL: expected one of {SCHEMES}"))),
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
    Err(Error::not_executed(Code::Unimplemented, "rpc-registry was built without the feature `nacos`"))
}

/// Returns `rest`, the part after a scheme that allows neither parameters nor `//`.
fn without_parameters<'a>(scheme: &str, rest: &'a str) -> Result<&'a str, Error> {
    if rest.starts_with("//") || rest.contains(['?', '#', '@']) {
        return Err(invalid(format!("`{scheme}:` allows neither `//` nor parameters; expected one of {SCHEMES}")));
    }
    Ok(rest)
}

fn local_directory(rest: &str) -> Result<Option<std::path::PathBuf>, Error> {
    match without_parameters("local", rest)? {
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
    async fn connect_rejects_invalid_urls_without_secrets() {
        for bad in ["", "x", "consul://a", "memory://a", "memory:a?b=c", "fixed://a:1", "local://a", "local:a"] {
            let error = connect(bad).await.err().unwrap();
            assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
        }
        let error = connect("redis://user:hunter2@host").await.err().unwrap().to_string();
        assert!(error.contains("nacos://") && !error.contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn backend_coerces_to_both_traits() {
        let backend = connect("memory:halves").await.unwrap();
        let registry: Arc<dyn Registry> = Arc::clone(&backend) as _;
        let discovery: Arc<dyn Discovery> = backend;
        assert_eq!(discovery.url(), "memory:halves");
        assert!(registry.reachable_ip().await.unwrap().is_loopback());
    }
}
