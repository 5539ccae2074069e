//! The files in `deploy/`: manifests, image, alerts and dashboard agree with the programs and with each other.

mod image;
mod manifests;
mod monitoring;
mod programs;
mod queries;

use std::{
    fs,
    path::{Path, PathBuf},
};

use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde_json::Value;

/// The manifests with a Deployment.
const DEPLOYMENTS: [&str; 3] = ["provider.yaml", "provider-nacos.yaml", "consumer.yaml"];

/// Returns a path in the workspace.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns the documents of a YAML file.
fn documents(text: &str) -> Vec<Value> {
    Yaml::load_from_str(text).unwrap().iter().map(json).collect()
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(entries) => {
            entries.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), json(value))).collect()
        }
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
        Yaml::Value(Scalar::String(value)) => (&**value).into(),
        other => panic!("unexpected YAML: {other:?}"),
    }
}

/// Returns the paths of all manifests.
fn manifests() -> Vec<PathBuf> {
    let files = fs::read_dir(path("deploy/kubernetes")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Returns the resource of a kind in a manifest.
fn resource(manifest: &str, kind: &str) -> Value {
    let all = documents(&read(&format!("deploy/kubernetes/{manifest}")));
    all.into_iter().find(|resource| resource["kind"] == kind).unwrap_or_else(|| panic!("{manifest} has no {kind}"))
}

/// A Deployment with one container.
struct Deployment(Value);

impl Deployment {
    fn read(manifest: &str) -> Self {
        Self(resource(manifest, "Deployment"))
    }

    fn pod(&self) -> &Value {
        &self.0["spec"]["template"]
    }

    fn container(&self) -> &Value {
        let containers = &self.pod()["spec"]["containers"];
        assert_eq!(containers.as_array().unwrap().len(), 1);
        &containers[0]
    }

    /// Returns the path of the program in the image.
    fn program(&self) -> &str {
        self.container()["command"][0].as_str().unwrap()
    }

    fn arguments(&self) -> Vec<&str> {
        self.container()["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect()
    }

    /// Returns the value of an option.
    fn option(&self, name: &str) -> Option<&str> {
        self.arguments().into_iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
    }

    /// Returns the names of the ports of the container, with their numbers.
    fn ports(&self) -> Vec<(&str, u64)> {
        let ports = self.container()["ports"].as_array().unwrap();
        ports.iter().map(|port| (port["name"].as_str().unwrap(), port["containerPort"].as_u64().unwrap())).collect()
    }

    fn annotation(&self, name: &str) -> &str {
        self.pod()["metadata"]["annotations"][name].as_str().unwrap_or_else(|| panic!("no annotation {name}"))
    }
}
