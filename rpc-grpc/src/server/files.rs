//! [`Files`]: the files that describe the services of a server.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto};

use super::well_known;
use crate::schema::Proto;

/// The files that describe the services of a server.
pub(super) struct Files {
    /// The encoded files by their names, each with those that it imports.
    by_name: BTreeMap<String, Vec<Bytes>>,
    /// The name of the file of each service, method, message and enum.
    by_symbol: HashMap<String, String>,
    services: Vec<String>,
}

impl Files {
    pub(super) fn new(protos: &[Arc<Proto>]) -> Self {
        let mut files = Self { by_name: BTreeMap::new(), by_symbol: HashMap::new(), services: Vec::new() };
        let value = well_known::value();
        let imported = Bytes::from(value.encode_to_vec());
        files.add(&value, &[]);
        for file in well_known::services() {
            files.add(&file, &[]);
        }
        for proto in protos {
            files.add(&proto.file, std::slice::from_ref(&imported));
        }
        files.services.sort_unstable();
        files
    }

    fn add(&mut self, file: &FileDescriptorProto, imported: &[Bytes]) {
        let mut encoded = vec![Bytes::from(file.encode_to_vec())];
        encoded.extend_from_slice(imported);
        self.by_name.insert(file.name().to_owned(), encoded);
        let mut symbols = Vec::new();
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            symbols.extend(service.method.iter().map(|method| format!("{name}.{}", method.name())));
            self.services.push(name.clone());
            symbols.push(name);
        }
        symbols.extend(file.enum_type.iter().map(|one| format!("{}.{}", file.package(), one.name())));
        let mut messages: Vec<(String, &DescriptorProto)> =
            file.message_type.iter().map(|message| (file.package().to_owned(), message)).collect();
        while let Some((scope, message)) = messages.pop() {
            let name = format!("{scope}.{}", message.name());
            messages.extend(message.nested_type.iter().map(|nested| (name.clone(), nested)));
            symbols.push(name);
        }
        for symbol in symbols {
            self.by_symbol.insert(symbol, file.name().to_owned());
        }
    }

    /// Returns the encoded file with this name, and those that it imports.
    pub(super) fn by_name(&self, name: &str) -> Option<&[Bytes]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// Returns the encoded file that defines a symbol, and those that it imports.
    pub(super) fn of_symbol(&self, symbol: &str) -> Option<&[Bytes]> {
        self.by_name(self.by_symbol.get(symbol)?)
    }

    pub(super) fn services(&self) -> &[String] {
        &self.services
    }
}
