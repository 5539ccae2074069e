//! `msnb call`: a call of a method by its name, with JSON.

use std::net::SocketAddr;

use rpc_cli::shutdown_signal;
use rpc_core::{CallError, Code, Error, descriptor::Form};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::{
    command_error::{CommandError, Exit},
    output,
    route::Route,
    target::{Target, unreachable_fix},
};

/// Calls a method with JSON arguments, and prints its result as JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Call {
    /// The method, such as demo.Greeter:1.0/hello.
    #[arg(value_name = "SERVICE/METHOD")]
    route: Route,
    /// The arguments as a JSON object, or - for those on stdin; default: {}.
    #[arg(value_name = "JSON")]
    arguments: Option<String>,
    /// The arguments as a JSON object, @FILE for those in a file, or @- for those on stdin.
    #[arg(short, long, value_name = "JSON|@FILE", conflicts_with = "arguments")]
    data: Option<String>,
    /// A metadata entry of the call. May be repeated.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_metadata)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    target: Target,
    /// Prints a JSON document with the member `result` or `error`.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_metadata(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Call {
    pub(crate) async fn run(self) -> Result<Exit, CommandError> {
        let Route { service, method: Some(method) } = &self.route else {
            let service = &self.route.service;
            let fix =
                format!("write {service}/METHOD; `msnb describe {service}{}` prints the methods", self.options(None));
            return Err(CommandError::input("a method is required").with_fix(fix));
        };
        let route = format!("{service}/{method}");
        let arguments = self.arguments(&route).await?;
        let address = self.target.stated_address().await?;
        let client = self.target.client().await?;
        let mut call = client.call_json(&route, arguments).timeout(self.target.timeout);
        if let Some(address) = address {
            call = call.address(address);
        }
        for (key, value) in &self.metadata {
            call = call.metadata(key, value);
        }
        let outcome = tokio::select! {
            outcome = call => outcome,
            // Dropping the call cancels it; closing the client sends the cancellation.
            () = shutdown_signal() => {
                client.close().await;
                return Ok(Exit::Interrupted);
            }
        };
        client.close().await;
        match outcome {
            Ok(result) if self.json => output::json(&json!({ "result": result })),
            Ok(result) => output::json(&result),
            Err(CallError::Service(error)) => Err(CommandError::service(&error)),
            Err(CallError::Rpc(error)) => {
                let fix = self.fix(&error, &route, address).await;
                let error = CommandError::from(error);
                Err(fix.into_iter().fold(error, CommandError::with_fix))
            }
        }
    }

    /// Reads the arguments.
    async fn arguments(&self, route: &str) -> Result<Value, CommandError> {
        let given = match (&self.data, self.arguments.as_deref()) {
            (Some(data), _) => match data.strip_prefix('@') {
                Some("-") => read_stdin().await?,
                Some(file) => tokio::fs::read_to_string(file).await.map_err(|error| {
                    CommandError::input(format!("cannot read {file}: {error}"))
                        .with_fix("write @FILE with the path of a text file")
                })?,
                None => data.clone(),
            },
            (None, Some("-")) => read_stdin().await?,
            (None, Some(text)) => text.to_owned(),
            (None, None) => "{}".to_owned(),
        };
        let template = format!("`msnb describe {route} --template{}` prints a body to fill in", self.options(None));
        let value: Value = serde_json::from_str(&given).map_err(|error| {
            let fix = format!("quote the JSON for the shell, such as '{{\"name\": \"Bo\"}}'; {template}");
            CommandError::input(format!("the arguments are not valid JSON: {error}")).with_fix(fix)
        })?;
        if !value.is_object() {
            let message = "the arguments are not a JSON object with the names of the parameters";
            return Err(CommandError::input(message).with_fix(template));
        }
        Ok(value)
    }

    /// Returns the options with which another command asks the same server or registry.
    fn options(&self, peer: Option<SocketAddr>) -> String {
        match (&self.target.address, peer) {
            (Some(address), _) => format!(" --address {address}"),
            (None, Some(peer)) => format!(" --address {peer}"),
            // The URL of a registry may contain a password.
            (None, None) => String::new(),
        }
    }

    async fn fix(&self, error: &Error, route: &str, address: Option<SocketAddr>) -> Option<String> {
        let service = &self.route.service;
        let options = self.options(error.peer());
        match error.code() {
            Code::InvalidArgument | Code::Unimplemented => {
                if let Some(fix) = self.contract_fix(error.peer().or(address)).await {
                    return Some(fix);
                }
                Some(format!(
                    "`msnb describe {service}{options}` prints the methods; `msnb describe {route} --template{options}` prints a body to fill in"
                ))
            }
            Code::Unavailable => match address {
                Some(address) => Some(unreachable_fix(address)),
                None => Some(format!(
                    "`msnb ls {service}` prints the providers in the registry; set --registry to another one, or name a server with --address"
                )),
            },
            _ => None,
        }
    }

    /// Returns the fix for a call that does not match the contract of the server, if the server describes it.
    async fn contract_fix(&self, server: Option<SocketAddr>) -> Option<String> {
        let server = server?;
        let Route { service, method } = &self.route;
        let target = self.target.at(server);
        let Ok(contract) = target.contract(service).await else {
            let services = target.services(server).await.ok()?;
            let names: Vec<_> = services.iter().map(|service| &*service.service).collect();
            return Some(format!("the server has the services {}", names.join(", ")));
        };
        match contract.method(method.as_deref()?) {
            None => {
                let names: Vec<_> = contract.methods.iter().map(|method| &*method.name).collect();
                Some(format!("{service} has the methods {}", names.join(", ")))
            }
            Some(method) if !matches!(method.form, Form::Unary | Form::OneWay) => {
                Some("`msnb call` supports no streams: call this method from Rust".to_owned())
            }
            Some(method) => {
                let parameters: Vec<_> = method
                    .parameters
                    .iter()
                    .map(|field| {
                        format!("{}: {}{}", field.name, field.ty, if field.optional { " (optional)" } else { "" })
                    })
                    .collect();
                let template = format!("`msnb describe {service}/{} --template --address {server}`", method.name);
                Some(format!("the parameters are {}; {template} prints a body to fill in", parameters.join(", ")))
            }
        }
    }
}

async fn read_stdin() -> Result<String, CommandError> {
    let mut text = String::new();
    let read = tokio::io::stdin().read_to_string(&mut text).await;
    read.map_err(|error| CommandError::input(format!("cannot read the arguments from stdin: {error}")))?;
    Ok(text)
}
