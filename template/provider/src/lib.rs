//! The implementation of `{{service}}`.

use contract::{
    {{service}}, {{service}}Error,
};

/// Greets callers.
#[derive(Debug, Clone, Copy, Default)]
pub struct My{{service}};

impl {{service}} for My{{service}} {
    async fn hello(&self, name: String) -> Result<String, {{service}}Error> {
        if name.is_empty() {
            return Err({{service}}Error::EmptyName);
        }
        Ok(format!("Hello {name}"))
    }
}
