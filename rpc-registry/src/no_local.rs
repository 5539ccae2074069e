//! [`Local`] on systems other than Unix, where a locked file cannot be read.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf};

use rpc_core::{Addresses, BoxFuture, Code, Discovery, Error, Instance, RegisterOutcome, Registry, ServiceId};

use crate::Administration;

/// The registry `local:`, which this system does not support.
#[derive(Debug)]
pub struct Local(Infallible);

impl Local {
    /// Returns an error.
    ///
    /// # Errors
    ///
    /// `Unimplemented`.
    pub async fn open(_: Option<PathBuf>) -> Result<Self, Error> {
        Err(Error::not_executed(Code::Unimplemented, "`local:` is supported on Unix only"))
    }
}

impl Registry for Local {
    fn register<'a>(&'a self, _: &'a ServiceId, _: Instance) -> BoxFuture<'a, Result<RegisterOutcome, Error>> {
        match self.0 {}
    }

    fn deregister<'a>(&'a self, _: &'a ServiceId, _: SocketAddr) -> BoxFuture<'a, Result<(), Error>> {
        match self.0 {}
    }
}

impl Discovery for Local {
    fn watch(&self, _: &ServiceId) -> Addresses {
        match self.0 {}
    }

    fn url(&self) -> &str {
        match self.0 {}
    }
}

impl Administration for Local {}
