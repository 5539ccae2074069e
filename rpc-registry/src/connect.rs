//! [`connect`]: opens the backend that a URL names.

use std::sync::Arc;

use rpc_core::{Code, Error};

use crate::{Backend, Fixed, Local, Memory, Several};

/// Opens the registry that `url` names; the crate's documentation lists the URL forms. Several URLs, separated by commas,
/// name several registries that are used as one ([`Several`]).
///
/// The backend's background tasks run on the current runtime: keep it for as long as the backend. When it ends, watches
/// end, which their receivers detect, and providers that are registered in Nacos are removed, which is logged. Watches
/// and registrations that are started afterwards use the runtime of their caller.
///
/// An unreachable host is not an error, because a backend retries in the background; the exception is `fixed:`, whose
/// host names must resolve. Dropping the last handle to a backend with registrations removes its registrations in the
/// background and ends its watches; their receivers keep the last list.
///
/// # Errors
///
/// - `InvalidArgument` if the URL is invalid. The message lists the valid forms and contains no value that may be
///   secret.
/// - `Unauthenticated` if Nacos rejects the user or the password.
/// - `Unavailable` if a host name of `fixed:` cannot be resolved or the directory of `local:` cannot be used.
/// - `Unimplemented` for `local:` on systems other than Unix, and for a registry whose feature is not enabled.
///
/// # Panics
///
/// Outside a Tokio runtime with its I/O and time drivers enabled.
///
/// # Cancel safety
///
/// Safe to drop at any time: a dropped future releases everything that it opened.
pub async fn connect(url: &str) -> Result<Arc<dyn Backend>, Error> {
    let urls = split(url);
    if urls.len() == 1 {
        return connect_one(url).await;
    }
    let mut backends = Vec::with_capacity(urls.len());
    for url in urls {
        backends.push(connect_one(url).await?);
    }
    Ok(Arc::new(Several::new(backends)))
}

/// Returns the URLs in a list such as `nacos://a,b,zookeeper://c`.
fn split(list: &str) -> Vec<&str> {
    let (mut urls, mut start) = (Vec::new(), 0);
    for (comma, _) in list.match_indices(',') {
        if SERVERS.iter().any(|scheme| list[comma + 1..].starts_with(scheme)) {
            urls.push(&list[start..comma]);
            start = comma + 1;
        }
    }
    urls.push(&list[start..]);
    urls
}

/// The URLs that may follow another one.
const SERVERS: [&str; 5] = ["nacos://", "zookeeper://", "etcd://", "dns://", "dns+srv://"];

async fn connect_one(url: &str) -> Result<Arc<dyn Backend>, Error> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "local" => Ok(Arc::new(Local::open(local_directory(rest)?).await?)),
        "fixed" => Ok(Arc::new(Fixed::new(without_parameters(scheme, rest)?).await?)),
        "memory" => Ok(Arc::new(Memory::named(without_parameters(scheme, rest)?))),
        "nacos" => nacos(url).await,
        "zookeeper" => zookeeper(url),
        "etcd" => etcd(url),
        "dns" | "dns+srv" => dns(url),
        _ => Err(invalid(format!("invalid registry URL: expected one of {SCHEMES}"))),
    }
}

const SCHEMES: &str = "`local:`, `local:/dir`, `nacos://host:8848,host2:8848`, `zookeeper://host:2181`, `etcd://host:2379`, `dns://name:port`, `dns+srv://_service._proto.name`, `fixed:host:port,host:port`, `memory:`, `memory:name`";

#[cfg(feature = "nacos")]
async fn nacos(url: &str) -> Result<Arc<dyn Backend>, Error> {
    Ok(Arc::new(crate::Nacos::connect(url).await?))
}

#[cfg(not(feature = "nacos"))]
async fn nacos(_: &str) -> Result<Arc<dyn Backend>, Error> {
    Err(Error::not_executed(Code::Unimplemented, "rpc-registry was built without the feature `nacos`"))
}

#[cfg(feature = "zookeeper")]
fn zookeeper(url: &str) -> Result<Arc<dyn Backend>, Error> {
    Ok(Arc::new(crate::ZooKeeper::connect(url)?))
}

#[cfg(not(feature = "zookeeper"))]
fn zookeeper(_: &str) -> Result<Arc<dyn Backend>, Error> {
    Err(Error::not_executed(Code::Unimplemented, "rpc-registry was built without the feature `zookeeper`"))
}

#[cfg(feature = "etcd")]
fn etcd(url: &str) -> Result<Arc<dyn Backend>, Error> {
    Ok(Arc::new(crate::Etcd::connect(url)?))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: &str) -> Result<Arc<dyn Backend>, Error> {
    Err(Error::not_executed(Code::Unimplemented, "rpc-registry was built without the feature `etcd`"))
}

#[cfg(feature = "dns")]
fn dns(url: &str) -> Result<Arc<dyn Backend>, Error> {
    Ok(Arc::new(crate::Dns::connect(url)?))
}

#[cfg(not(feature = "dns"))]
fn dns(_: &str) -> Result<Arc<dyn Backend>, Error> {
    Err(Error::not_executed(Code::Unimplemented, "rpc-registry was built without the feature `dns`"))
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
    use rpc_core::{Discovery, Registry};

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

    #[test]
    fn urls_are_separated_before_a_scheme() {
        assert_eq!(
            split("nacos://a:1,b?x=y,zookeeper://c,d/e,etcd://f"),
            ["nacos://a:1,b?x=y", "zookeeper://c,d/e", "etcd://f"]
        );
        assert_eq!(split("fixed:a:1,nacos:2"), ["fixed:a:1,nacos:2"]);
        assert_eq!(split("local:,nacos://a"), ["local:", "nacos://a"]);
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
