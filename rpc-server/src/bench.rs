//! The private data structures on the path of a call, for the benchmarks of the package `bench`.
//!
//! Not a public API.

use std::sync::Arc;

use rpc_core::{Error, Service, head::Route};

use crate::call::dispatcher::Dispatcher;

/// The routing table of a server.
pub struct Routes(Dispatcher);

impl Routes {
    /// Creates the table of a server with one service.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if two methods have the same route.
    pub fn of(service: impl Service) -> Result<Self, Error> {
        let mut dispatcher = Dispatcher::default();
        dispatcher.add(Arc::new(service))?;
        Ok(Self(dispatcher))
    }

    /// Returns the index of the method with this route in its service.
    #[inline]
    pub fn find(&self, route: &Route) -> Option<usize> {
        self.0.find(route).map(|target| self.0.target(target).method)
    }
}
