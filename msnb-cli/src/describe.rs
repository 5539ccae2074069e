//! `msnb describe`: the contract of a service.

use crate::{
    command_error::{CommandError, Exit},
    contract::{reduce, template, to_rust},
    export::to_text,
    output,
    printable::printable,
    route::Route,
    target::Target,
};

/// Prints the contract of a service, or of one of its methods, as Rust.
#[derive(Debug, clap::Args)]
pub(crate) struct Describe {
    /// The service, such as demo.Greeter:1.0, or a method of it, such as demo.Greeter:1.0/hello.
    #[arg(value_name = "SERVICE[/METHOD]")]
    route: Route,
    #[command(flatten)]
    target: Target,
    /// Prints the contract as JSON, which `msnb check` reads.
    #[arg(long, conflicts_with_all = ["template", "proto", "openapi"])]
    pub(crate) json: bool,
    /// Prints the arguments of a call as JSON, to fill in.
    #[arg(long, conflicts_with_all = ["proto", "openapi"])]
    template: bool,
    /// Prints the contract as a .proto file.
    #[arg(long, conflicts_with = "openapi")]
    proto: bool,
    /// Prints an OpenAPI 3.1 document of the calls over HTTP.
    #[arg(long)]
    openapi: bool,
}

impl Describe {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let Route { service, method } = &self.route;
        if self.template && method.is_none() {
            let fix = format!("write {service}/METHOD; `msnb describe {service}` prints the methods");
            return Err(CommandError::input("--template needs a method").with_fix(fix));
        }
        let mut contract = self.target.contract(service).await?;
        if let Some(name) = method {
            if contract.method(name).is_none() {
                let names: Vec<_> = contract.methods.iter().map(|method| &*method.name).collect();
                let fix = format!("the methods are: {}", names.join(", "));
                let message = format!("{service} has no method `{name}`");
                return Err(CommandError::new(Exit::Rejected, message).with_fix(fix));
            }
            reduce(&mut contract, name);
        }
        match contract.methods.first() {
            Some(method) if self.template => output::json(&template(&contract, method)),
            _ if self.json => output::text(&contract.to_json()),
            _ if self.proto => output::text(&printable(&rpc_schema::proto(&contract).to_string())),
            _ if self.openapi => output::text(&to_text(&rpc_schema::openapi(&[contract]))),
            _ => output::text(&printable(&to_rust(&contract))),
        }
    }
}
