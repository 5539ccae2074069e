//! The description of the services.
